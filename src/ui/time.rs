//! Spans of time as people read them.

/// How long something took.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.2} s");
    }
    let whole = seconds as u64;
    match whole {
        0..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// How long ago something was, roughly.
pub(crate) fn age(seconds: f64) -> String {
    // A clock that was set back must not show nonsense.
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole / 60),
        7200..172_800 => format!("{} h", whole / 3600),
        _ => format!("{} days", whole / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_fitting_units() {
        assert_eq!(duration(1.234), "1.23 s");
        assert_eq!(duration(61.0), "1 min 1 s");
        assert_eq!(duration(3660.0), "1 h 1 min");
        assert_eq!(age(-5.0), "0 s");
        assert_eq!(age(119.0), "119 s");
        assert_eq!(age(7199.0), "119 min");
        assert_eq!(age(86_400.0 * 3.0), "3 days");
    }
}
