//! Points in time as they are stored: labels for people, never the base of a decision.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// When the year 0 begins, in seconds since 1970.
const FIRST_OF_YEAR_0: i64 = -62_167_219_200;

/// Seconds and nanoseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// The rest, 0 to 999,999,999.
    #[serde(deserialize_with = "decode_fraction")]
    pub nanoseconds: u32,
}

/// The greatest fraction of a second.
const MAX_NANOSECONDS: u32 = 999_999_999;

fn decode_fraction<'de, D: Deserializer<'de>>(decoder: D) -> Result<u32, D::Error> {
    let nanoseconds = u32::deserialize(decoder)?;
    match nanoseconds <= MAX_NANOSECONDS {
        true => Ok(nanoseconds),
        false => Err(D::Error::custom("a time with more than a second of nanoseconds")),
    }
}

impl Timestamp {
    /// A time as `stat` tells it. A fraction that is none, of whatever file system, counts as zero: it could not be read
    /// back.
    pub(crate) fn from_stat(seconds: i64, nanoseconds: impl TryInto<u32>) -> Self {
        let nanoseconds = nanoseconds.try_into().ok().filter(|&fraction| fraction <= MAX_NANOSECONDS);
        Self { seconds, nanoseconds: nanoseconds.unwrap_or(0) }
    }

    /// The clock's time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time as a revision is named by it: `2026-11-20T10-13-20Z`.
    pub fn to_revision_name(self) -> String {
        self.to_jiff().strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
    }

    /// The time that a revision's name tells, whatever its suffix; `None` if it tells none.
    pub fn from_revision_name(name: &str) -> Option<Self> {
        let (time, _) = name.split_at_checked("2026-11-20T10-13-20Z".len())?;
        let time = jiff::fmt::strtime::parse("%Y-%m-%dT%H-%M-%SZ", time).ok()?.to_datetime().ok()?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Self { seconds: time.as_second(), nanoseconds: 0 })
    }

    /// The time as RFC 3339 writes it, in UTC; `None` before the year 0 and behind 9999, for which that has no digits. File
    /// systems have such times.
    pub fn to_rfc3339(self) -> Option<String> {
        let nanoseconds = i32::try_from(self.nanoseconds).ok()?;
        let time = jiff::Timestamp::new(self.seconds, nanoseconds).ok();
        time.filter(|_| self.seconds >= FIRST_OF_YEAR_0).map(|time| time.to_string())
    }

    /// Nanoseconds since 1970; `None` when out of range.
    pub fn as_nanoseconds(self) -> Option<i128> {
        (self.nanoseconds < 1_000_000_000)
            .then(|| i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds))
    }

    /// The time for the system's calls; the epoch when out of range.
    pub fn to_system_time(self) -> SystemTime {
        let fraction = std::time::Duration::from_nanos(u64::from(self.nanoseconds));
        let whole = std::time::Duration::from_secs(self.seconds.unsigned_abs());
        let base =
            if self.seconds >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
        base.and_then(|base| base.checked_add(fraction)).unwrap_or(UNIX_EPOCH)
    }

    /// Seconds from `earlier` to this time, negative if it is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        let whole = self.seconds.saturating_sub(earlier.seconds) as f64;
        whole + (f64::from(self.nanoseconds) - f64::from(earlier.nanoseconds)) / 1e9
    }

    fn to_jiff(self) -> jiff::Timestamp {
        let nanoseconds = i32::try_from(self.nanoseconds).unwrap_or(0);
        jiff::Timestamp::new(self.seconds, nanoseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()), after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let nanoseconds = before.subsec_nanos();
                let borrow = i64::from(nanoseconds > 0);
                let seconds = i64::try_from(before.as_secs()).map(|whole| -whole - borrow);
                (seconds, (1_000_000_000 - nanoseconds) % 1_000_000_000)
            }
        };
        Self { seconds: seconds.unwrap_or_default(), nanoseconds }
    }
}

/// RFC 3339 in UTC, or where that has no digits the seconds since 1970 behind an `@`, as `date` reads and writes them.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.to_rfc3339() {
            return f.write_str(&text);
        }
        let nanoseconds = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let (whole, fraction) =
            (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
        write!(f, "@{sign}{whole}")?;
        if fraction > 0 { write!(f, ".{fraction:09}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::codec;

    #[test]
    fn a_revision_is_named_by_its_time_in_utc() {
        let time = Timestamp { seconds: 1_795_169_600, nanoseconds: 999_999_999 };
        assert_eq!(time.to_revision_name(), "2026-11-20T10-13-20Z");
        assert_eq!(time.to_string(), "2026-11-20T10:13:20.999999999Z");
    }

    #[test]
    fn system_times_survive_the_way_there_and_back() {
        for (seconds, nanoseconds) in [(0, 0), (5, 7), (-3, 250_000_000), (-3, 0)] {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(Timestamp::from(time.to_system_time()), time);
        }
    }

    #[test]
    fn a_fraction_of_more_than_a_second_is_neither_taken_nor_read() {
        assert_eq!(Timestamp::from_stat(3, 999_999_999_i64).nanoseconds, 999_999_999);
        for absurd in [1_000_000_000_i64, -1, i64::MAX] {
            assert_eq!(Timestamp::from_stat(3, absurd), Timestamp { seconds: 3, nanoseconds: 0 });
        }
        let read = |nanoseconds| {
            codec::decode::<Timestamp>(&codec::encode(&Timestamp { seconds: 3, nanoseconds }).unwrap())
        };
        assert!(read(999_999_999).is_ok() && read(1_000_000_000).is_err());
    }

    #[test]
    fn absurd_times_are_shown_without_a_panic() {
        let time = Timestamp { seconds: i64::MAX, nanoseconds: u32::MAX };
        assert!(time.to_string().starts_with('@'));
        assert_eq!(time.to_system_time(), UNIX_EPOCH);
    }

    /// They were once shown as the epoch.
    #[test]
    fn times_without_a_date_are_shown_as_seconds() {
        let shown = |seconds, nanoseconds| {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(time.to_rfc3339().is_none(), time.to_string().starts_with('@'));
            time.to_string()
        };
        assert_eq!(shown(FIRST_OF_YEAR_0, 0), "0000-01-01T00:00:00Z");
        assert_eq!(shown(FIRST_OF_YEAR_0 - 1, 0), "@-62167219201");
        assert_eq!(shown(FIRST_OF_YEAR_0 - 1, 250_000_000), "@-62167219200.750000000");
        assert_eq!(shown(253_402_207_200, 7), "9999-12-30T22:00:00.000000007Z");
        assert_eq!(shown(253_402_300_800, 0), "@253402300800");
        assert_eq!(shown(i64::MAX, 5), "@9223372036854775807.000000005");
        assert_eq!(shown(i64::MIN, 0), "@-9223372036854775808");
    }
}
