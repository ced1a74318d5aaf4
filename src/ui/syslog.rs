//! Lines to the system's log, through its datagram socket.

use std::io;
use std::os::unix::net::UnixDatagram;

use log::Level;

/// Where every Linux system's log daemon listens.
const SOCKET: &str = "/dev/log";
/// The facility of daemons, as RFC 3164 numbers it.
const FACILITY_DAEMON: u8 = 3;

/// A connection to the system's log.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
}

impl Syslog {
    /// Connects; fails where no log daemon runs.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        // A log daemon that hangs must not hang a mount.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends a line; one that can't be sent is lost.
    pub(super) fn send(&self, level: Level, message: &str) {
        let _ = self.socket.send(line(level, std::process::id(), message).as_bytes());
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
    use super::*;

    #[test]
    fn a_line_carries_facility_severity_and_process() {
        assert_eq!(line(Level::Warn, 7, "hello"), "<28>treering[7]: hello");
    }
}
