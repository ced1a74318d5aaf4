//! Lines to the system's log, through its datagram socket.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use log::Level;

/// Where every Linux system's log daemon listens.
const SOCKET: &str = "/dev/log";
/// The facility of daemons, as RFC 3164 numbers it.
const FACILITY_DAEMON: u8 = 3;

/// The way to the system's log.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    daemon: PathBuf,
}

impl Syslog {
    /// Finds the system's log; fails where no log daemon runs.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(daemon: &Path) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(daemon)?;
        let socket = UnixDatagram::unbound()?;
        // A log daemon that hangs must not hang a mount.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, daemon: daemon.to_owned() })
    }

    /// Sends a line; one that can't be sent is lost. The daemon is looked up each time: one that was started anew has
    /// another socket.
    pub(super) fn send(&self, level: Level, message: &str) {
        let line = line(level, std::process::id(), message);
        let _ = self.socket.send_to(line.as_bytes(), &self.daemon);
    }
}

fn line(level: Level, process: u32, message: &str) -> String {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{}>treering[{process}]: {message}", FACILITY_DAEMON * 8 + severity)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_line_carries_facility_severity_and_process() {
        assert_eq!(line(Level::Warn, 7, "hello"), "<28>treering[7]: hello");
    }
    #[test]
    fn lines_go_on_after_the_log_daemon_was_started_anew() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = directory.path().join("log");
        assert!(Syslog::at(&daemon).is_err());
        let socket = UnixDatagram::bind(&daemon).unwrap();
        let syslog = Syslog::at(&daemon).unwrap();
        let assert_sent = |socket: UnixDatagram, word: &str| {
            syslog.send(Level::Error, word);
            let mut bytes = [0; 100];
            socket.set_nonblocking(true).unwrap();
            let length = socket.recv(&mut bytes).unwrap();
            assert!(bytes[..length].ends_with(word.as_bytes()));
        };
        assert_sent(socket, "before");
        std::fs::remove_file(&daemon).unwrap();
        syslog.send(Level::Error, "lost");
        assert_sent(UnixDatagram::bind(&daemon).unwrap(), "after");
    }
}
