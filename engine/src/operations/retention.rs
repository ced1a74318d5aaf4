//! Which revisions a policy keeps. Nothing is read or changed here: it is a function of what is known of the revisions.
//!
//! Rules are those of restic and others, each by itself: of the N newest hours (days, weeks, …) in which there are
//! revisions, the newest revision of each is kept. Some revisions are kept and count for no rule:
//! protected ones, and those that are dated in the future, which a clock that was wrong has made: of these nobody knows how
//! old they are, and they must not push out honest ones. The newest revision, in the order of commits, is always kept.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::error::{Error, Result};
use crate::format::Timestamp;

/// How revisions of a stream are kept.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// So many newest ones, in the order of commits.
    pub last: u64,
    /// The newest one of each of so many hours.
    pub hourly: u64,
    /// The newest one of each of so many days.
    pub daily: u64,
    /// The newest one of each of so many weeks, which begin on Monday.
    pub weekly: u64,
    /// The newest one of each of so many months.
    pub monthly: u64,
    /// The newest one of each of so many years.
    pub yearly: u64,
    /// All that are not older than this, seen from the newest one's time, and behind longer gaps; see [`Policy::judge`].
    pub within: Option<KeepWithin>,
    /// All with one of these tags.
    pub tags: Vec<String>,
    /// Where hours, days and so on begin.
    pub zone: Zone,
}

/// What a policy needs to know of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The time that it is named by.
    pub time: Timestamp,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is protected.
    pub protection: Protection,
}

/// Whether a revision may be forgotten at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It may.
    Off,
    /// It may not.
    On,
    /// Its labels can't be read: it may be protected.
    Unknown,
}

/// Why a revision is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is the newest one.
    Newest,
    /// It is protected.
    Protected,
    /// It may be protected.
    Unknown,
    /// Its time has not come.
    Future,
    /// It is among the last ones.
    Last,
    /// It is the newest one of its hour.
    Hourly,
    /// It is the newest one of its day.
    Daily,
    /// It is the newest one of its week.
    Weekly,
    /// It is the newest one of its month.
    Monthly,
    /// It is the newest one of its year.
    Yearly,
    /// It is young enough.
    Within,
    /// It has this tag.
    Tag(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newest => "newest",
            Self::Protected => "protected",
            Self::Unknown => "labels can't be read",
            Self::Future => "dated in the future",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
            Self::Tag(tag) => return write!(f, "tag {tag}"),
        })
    }
}

/// A length of time in units of the calendar: `30d`, `1y 6mo`, `36h`.
#[derive(Clone, Debug)]
pub struct KeepWithin(Span);

impl FromStr for KeepWithin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason: String| Error::BadParameter { what: "duration", reason };
        let span: Span = text.parse().map_err(|error| {
            refuse(format!("'{text}' is none ({error}); write 30d, 12h, '1y 6mo' or '2w'"))
        })?;
        match span.is_positive() {
            true => Ok(Self(span)),
            false => Err(refuse(format!("'{text}' is not longer than nothing"))),
        }
    }
}

impl KeepWithin {
    /// Whether a time is older than this, seen from another one. What reaches back beyond the calendar keeps all.
    fn is_older(&self, time: &Zoned, from: &Zoned) -> bool {
        from.checked_sub(self.0).is_ok_and(|begin| *time < begin)
    }
}

/// A time zone by its name: `UTC`, `Europe/Berlin`.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        TimeZone::get(name).map(Self).map_err(|_| Error::BadParameter {
            what: "time zone",
            reason: format!("'{name}' is not known; write it as UTC or Europe/Berlin"),
        })
    }
}

impl Zone {
    /// A time here. One beyond the calendar, before the year -9999 or after 9999, counts as its end.
    fn at(&self, time: Timestamp) -> Zoned {
        let beyond = if time.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
        let time = jiff::Timestamp::new(time.seconds, nanoseconds).unwrap_or(beyond);
        time.to_zoned(self.0.clone())
    }
}

impl Policy {
    /// Whether it keeps nothing but the newest revision, and what no policy takes.
    pub fn is_empty(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        counts.iter().all(|count| *count == 0) && self.within.is_none() && self.tags.is_empty()
    }

    /// Says of each revision why it is kept; of one that is to be forgotten, nothing. The revisions of a stream stand in
    /// the order of their commits, the oldest first.
    pub fn judge(&self, revisions: &[Candidate], now: Timestamp) -> Vec<Vec<Rule>> {
        let mut kept: Vec<Vec<Rule>> =
            revisions.iter().map(|revision| self.by_itself(revision, now)).collect();
        if let Some(newest) = kept.last_mut() {
            newest.insert(0, Rule::Newest);
        }
        let counted: Vec<usize> = (0..revisions.len()).filter(|&n| counts(&revisions[n], now)).collect();
        for &n in counted.iter().rev().take(usize::try_from(self.last).unwrap_or(usize::MAX)) {
            kept[n].push(Rule::Last);
        }
        // Of equal times the later commit is the newer one.
        let mut by_time: Vec<(Zoned, usize)> =
            counted.iter().map(|&n| (self.zone.at(revisions[n].time), n)).collect();
        by_time.sort();
        by_time.reverse();
        for (rule, count, period) in self.periods() {
            let mut last = None;
            let mut left = count;
            for (time, n) in &by_time {
                let this = Some(period(time));
                if this == last {
                    continue;
                }
                if left == 0 {
                    break;
                }
                kept[*n].push(rule.clone());
                (last, left) = (this, left - 1);
            }
        }
        if let Some(within) = &self.within {
            let times: Vec<Timestamp> = counted.iter().map(|&n| revisions[n].time).collect();
            let young = not_older(&times, within, &self.zone);
            counted
                .iter()
                .zip(young)
                .filter(|(_, young)| *young)
                .for_each(|(&n, _)| kept[n].push(Rule::Within));
        }
        kept
    }

    /// Why it is kept whatever others there are.
    fn by_itself(&self, revision: &Candidate, now: Timestamp) -> Vec<Rule> {
        let protected = match revision.protection {
            Protection::Off => None,
            Protection::On => Some(Rule::Protected),
            Protection::Unknown => Some(Rule::Unknown),
        };
        let future = (revision.time > now).then_some(Rule::Future);
        let tagged = revision.tags.iter().filter(|tag| self.tags.contains(tag)).cloned().map(Rule::Tag);
        protected.into_iter().chain(future).chain(tagged).collect()
    }

    fn periods(&self) -> [(Rule, u64, PeriodOf); 5] {
        [
            // An hour that comes twice when clocks are set back is two hours.
            (Rule::Hourly, self.hourly, |time| {
                (time.year(), time.day_of_year(), time.hour(), time.offset().seconds())
            }),
            (Rule::Daily, self.daily, |time| (time.year(), time.day_of_year(), 0, 0)),
            (Rule::Weekly, self.weekly, |time| {
                let week = time.date().iso_week_date();
                (week.year(), week.week().into(), 0, 0)
            }),
            (Rule::Monthly, self.monthly, |time| (time.year(), time.month().into(), 0, 0)),
            (Rule::Yearly, self.yearly, |time| (time.year(), 0, 0, 0)),
        ]
    }
}

/// Which of some revisions are not older than a duration. Their times are in the order of commits.
fn not_older(times: &[Timestamp], within: &KeepWithin, zone: &Zone) -> Vec<bool> {
    let is_believed = believed(times);
    let believed = times.iter().zip(&is_believed).filter(|(_, is_believed)| **is_believed);
    let newest_first: Vec<Zoned> = believed.rev().map(|(time, _)| zone.at(*time)).collect();
    let from = reckoned_from(&newest_first, within);
    let is_young = |time: &Zoned| from.iter().any(|from| time <= *from && !within.is_older(time, from));
    // One whose time is not believed is at least as old as the next one whose time is; it may be right all the same.
    let mut is_next_young = true;
    let mut young = vec![true; times.len()];
    for (n, time) in times.iter().enumerate().rev() {
        let is_own_young = is_young(&zone.at(*time));
        is_next_young = if is_believed[n] { is_own_young } else { is_next_young };
        young[n] = is_own_young || is_next_young;
    }
    young
}

/// Which times are believed: the most that agree with the order of commits. Those of a clock that was wrong for a while, and
/// right again when the next revisions were made, are not among them. Of several choices that one is taken that ends
/// earliest, as it has pushed out least.
fn believed(times: &[Timestamp]) -> Vec<bool> {
    // Of the rows of each length that rise, the last one of that which ends earliest; and which one each stands behind.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(times.len());
    for (n, time) in times.iter().enumerate() {
        let length = ends.partition_point(|end| times[*end] <= *time);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = n,
            None => ends.push(n),
        }
    }
    let mut is_believed = vec![false; times.len()];
    let mut next = ends.last().copied();
    while let Some(n) = next {
        is_believed[n] = true;
        next = before[n];
    }
    is_believed
}

/// The times from which a duration is reckoned. That is the newest one's; where all up to a longer gap is within, that of the
/// one behind the gap as well, as a clock may be ahead even now; and where that one stands alone, that of the next one
/// which does not: the clock may have been set ahead more than once.
fn reckoned_from<'a>(newest_first: &'a [Zoned], within: &KeepWithin) -> Vec<&'a Zoned> {
    let mut from = Vec::new();
    for (place, group) in newest_first.chunk_by(|newer, older| !within.is_older(older, newer)).enumerate() {
        let (Some(newest), Some(oldest)) = (group.first(), group.last()) else { break };
        let is_alone = group.len() == 1;
        if place < 2 || !is_alone {
            from.push(newest);
        }
        let goes_on = if place == 0 { !within.is_older(oldest, newest) } else { is_alone };
        if !goes_on {
            break;
        }
    }
    from
}

/// An hour, a day and so on: year, its part, and of an hour its number and the zone's offset.
type Period = (i16, i16, i8, i32);

/// The period in which a time lies.
type PeriodOf = fn(&Zoned) -> Period;

/// Whether rules see it.
fn counts(revision: &Candidate, now: Timestamp) -> bool {
    revision.protection == Protection::Off && revision.time <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp { seconds: time.as_second(), nanoseconds: 0 }
    }

    fn candidate(text: &str) -> Candidate {
        Candidate { time: time(text), tags: Vec::new(), protection: Protection::Off }
    }

    const NOW: &str = "2026-11-28T12:00:00Z";

    /// The rules of each revision, joined; empty if it is forgotten.
    fn judge(policy: &Policy, times: &[&str]) -> Vec<String> {
        let revisions: Vec<_> = times.iter().map(|time| candidate(time)).collect();
        shown(&policy.judge(&revisions, time(NOW)))
    }

    fn shown(kept: &[Vec<Rule>]) -> Vec<String> {
        let joined = |rules: &Vec<Rule>| rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        kept.iter().map(joined).collect()
    }

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    #[test]
    fn nothing_is_kept_of_nothing() {
        assert_eq!(judge(&Policy { daily: 3, ..Policy::default() }, &[]), Vec::<String>::new());
    }

    #[test]
    fn the_newest_is_kept_by_any_policy() {
        let kept = judge(&Policy::default(), &["2026-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]);
        assert_eq!(kept, ["", "newest"]);
    }

    #[test]
    fn the_last_go_by_commits_and_periods_by_time() {
        let times = ["2026-11-03T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-01T00:00:00Z"];
        let last = Policy { last: 2, ..Policy::default() };
        assert_eq!(judge(&last, &times), ["", "last", "newest last"]);
        let daily = Policy { daily: 2, ..Policy::default() };
        assert_eq!(judge(&daily, &times), ["daily", "daily", "newest"]);
    }

    #[test]
    fn of_a_period_the_newest_is_kept_and_only_periods_with_revisions_count() {
        let policy = Policy { daily: 2, ..Policy::default() };
        let times =
            ["2026-10-01T01:00:00Z", "2026-11-20T01:00:00Z", "2026-11-20T23:59:59Z", "2026-11-27T08:00:00Z"];
        assert_eq!(judge(&policy, &times), ["", "", "daily", "newest daily"]);
    }

    #[test]
    fn rules_are_independent_of_each_other() {
        let policy = Policy { daily: 1, weekly: 2, monthly: 2, yearly: 3, ..Policy::default() };
        let times = [
            "2024-05-05T00:00:00Z",
            "2025-12-31T00:00:00Z",
            "2026-10-30T00:00:00Z",
            "2026-11-22T00:00:00Z",
            "2026-11-23T00:00:00Z",
        ];
        let expected = ["yearly", "yearly", "monthly", "weekly", "newest daily weekly monthly yearly"];
        assert_eq!(judge(&policy, &times), expected);
    }

    #[test]
    fn weeks_begin_on_monday_and_go_on_over_the_end_of_a_year() {
        let policy = Policy { weekly: 9, ..Policy::default() };
        // A Sunday, the Monday after it, and the Thursday of the same week in the next year.
        let times = ["2025-12-28T12:00:00Z", "2025-12-29T12:00:00Z", "2026-01-01T12:00:00Z"];
        assert_eq!(judge(&policy, &times), ["weekly", "", "newest weekly"]);
    }

    #[test]
    fn a_leap_day_is_a_day_and_belongs_to_february() {
        let times = ["2024-02-28T12:00:00Z", "2024-02-29T12:00:00Z", "2024-03-01T12:00:00Z"];
        let daily = Policy { daily: 3, ..Policy::default() };
        assert_eq!(judge(&daily, &times), ["daily", "daily", "newest daily"]);
        let monthly = Policy { monthly: 2, ..Policy::default() };
        assert_eq!(judge(&monthly, &times), ["", "monthly", "newest monthly"]);
        let within = Policy { within: Some("1y".parse().unwrap()), ..Policy::default() };
        let times = ["2023-02-27T12:00:00Z", "2023-02-28T12:00:00Z", "2024-02-29T12:00:00Z"];
        assert_eq!(judge(&within, &times), ["", "within", "newest within"]);
    }

    /// Days of November 2026, those of the years to come as `2037-01-01`; kept ones in brackets.
    fn assert_within(duration: &str, days: &[&str], expected: &[bool]) {
        let within = Policy { within: Some(duration.parse().unwrap()), ..Policy::default() };
        let at = |day: &str| format!("{}{day}T02:00:00Z", if day.len() > 2 { "" } else { "2026-11-" });
        let candidates: Vec<Candidate> = days.iter().map(|day| candidate(&at(day))).collect();
        let kept = within.judge(&candidates, time(&at("2040-01-01")));
        let kept: Vec<bool> = kept.iter().map(|rules| !rules.is_empty()).collect();
        assert_eq!(kept, expected, "{duration} of {days:?}");
    }

    const KEPT: bool = true;
    const GONE: bool = false;

    /// Once a clock was ahead for a night, is so still, and everything before was too old.
    #[test]
    fn a_duration_is_reckoned_anew_behind_a_gap_that_is_longer() {
        assert_within("2d", &["24", "25", "26", "27"], &[GONE, KEPT, KEPT, KEPT]);
        assert_within("2d", &["24", "25", "26", "27", "2037-01-01"], &[GONE, KEPT, KEPT, KEPT, KEPT]);
        // For two nights, by the same time.
        let ahead = ["24", "25", "26", "2037-01-01", "2037-01-02"];
        assert_within("1d", &ahead, &[GONE, KEPT, KEPT, KEPT, KEPT]);
        // Not where the gap lies behind what is too old anyway.
        let gap_before = ["2020-01-01", "24", "25", "26", "27"];
        assert_within("2d", &gap_before, &[GONE, GONE, KEPT, KEPT, KEPT]);
    }

    /// A clock that was ahead by another time each night, the last time even now, pushed out all that was honest.
    #[test]
    fn a_clock_that_is_set_ahead_more_than_once_pushes_nothing_out() {
        let ahead = ["10", "19", "20", "21", "2037-01-01", "2037-01-20"];
        assert_within("7d", &ahead, &[GONE, KEPT, KEPT, KEPT, KEPT, KEPT]);
        let ahead = ["19", "20", "21", "2037-01-01", "2037-01-20", "2037-02-20"];
        assert_within("7d", &ahead, &[KEPT, KEPT, KEPT, GONE, KEPT, KEPT]);
        let first_ones_not = ["2036-01-01", "2037-01-01", "19", "20", "21"];
        assert_within("7d", &first_ones_not, &[KEPT, KEPT, KEPT, KEPT, KEPT]);
    }

    /// The order of commits is the truth: who was made before another one has no later time.
    #[test]
    fn times_that_the_order_of_commits_contradicts_push_nothing_out() {
        let ahead_twice = ["10", "19", "20", "2037-01-01", "21", "22", "2037-01-20"];
        assert_within("7d", &ahead_twice, &[GONE, KEPT, KEPT, KEPT, KEPT, KEPT, KEPT]);
        let ahead_often = ["19", "2037-01-01", "20", "2036-01-01", "21", "2038-01-01", "22", "2035-01-01"];
        assert_within("7d", &ahead_often, &[KEPT; 8]);
        // They go when the next one of those goes that are believed.
        let long_ago = ["10", "2037-01-01", "11", "2037-01-20", "15", "20", "21"];
        assert_within("7d", &long_ago, &[GONE, GONE, GONE, KEPT, KEPT, KEPT, KEPT]);
        // One that was behind is as young as those around it, and no reason to keep what was before.
        assert_within("2d", &["20", "1970-01-01", "21", "23", "25"], &[GONE, GONE, GONE, KEPT, KEPT]);
        assert_within("2d", &["22", "24", "1970-01-01", "25"], &[GONE, KEPT, KEPT, KEPT]);
        assert_within("2d", &["22", "24", "25", "1970-01-01", "1970-01-02"], &[GONE, KEPT, KEPT, KEPT, KEPT]);
        // Even where more of them are left than of those that were right.
        assert_within("2d", &["24", "1970-01-01", "1970-01-02", "1970-01-03", "25"], &[KEPT; 5]);
    }

    /// Each of its revisions stands alone, and nothing tells it from one whose clock was set ahead again and again.
    #[test]
    fn a_stream_that_is_backed_up_seldom_does_not_keep_everything() {
        let seldom = ["2020-01-01", "2021-01-01", "2022-01-01", "20", "24", "27"];
        assert_within("2d", &seldom, &[GONE, GONE, GONE, GONE, KEPT, KEPT]);
        // It was backed up more often once.
        let often_before = ["2020-01-01", "2020-01-02", "2021-01-01", "2022-01-01", "20", "27"];
        assert_within("2d", &often_before, &[KEPT, KEPT, GONE, GONE, KEPT, KEPT]);
        let and_again = ["2020-01-01", "2020-01-02", "2021-01-01", "20", "21", "27"];
        assert_within("2d", &and_again, &[GONE, GONE, GONE, KEPT, KEPT, KEPT]);
    }

    proptest::proptest! {
        /// Of a stream that is backed up more often than the duration, whatever a clock makes of two nights that is far off.
        #[test]
        fn two_wrong_times_push_nothing_out(
            steps in proptest::collection::vec(1..8i64, 2..40),
            wrong in proptest::collection::vec((0..40usize, -10..10i64), 0..3),
            duration in 8..20i64,
        ) {
            let within = Policy { within: Some(format!("{duration}d").parse().unwrap()), ..Policy::default() };
            let now = Timestamp { seconds: 20_000 * 86_400, nanoseconds: 0 };
            let at = |day: i64| Candidate {
                time: Timestamp { seconds: day * 86_400, nanoseconds: 0 },
                ..candidate(NOW)
            };
            let kept = |days: &[(bool, i64)]| -> Vec<i64> {
                let candidates: Vec<Candidate> = days.iter().map(|(_, day)| at(*day)).collect();
                let rules = within.judge(&candidates, now);
                let honest = days.iter().zip(rules).filter(|((is_honest, _), rules)| *is_honest && !rules.is_empty());
                honest.map(|((_, day), _)| *day).collect()
            };
            let days = steps.iter().scan(0, |day, step| {
                *day += step;
                Some((true, *day))
            });
            let mut days: Vec<(bool, i64)> = days.collect();
            let before = kept(&days);
            for (place, far) in wrong {
                days.insert(place.min(days.len()), (false, far * 1000 + 500));
            }
            let after = kept(&days);
            proptest::prop_assert!(before.iter().all(|day| after.contains(day)), "{days:?}: {before:?} {after:?}");
        }

        #[test]
        fn no_larger_set_of_times_agrees_with_the_order_of_commits(
            times in proptest::collection::vec(0..6i64, 0..9),
        ) {
            let times: Vec<Timestamp> =
                times.into_iter().map(|seconds| Timestamp { seconds, nanoseconds: 0 }).collect();
            let chosen = |set: u32| -> Vec<Timestamp> {
                times.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1).map(|(_, time)| *time).collect()
            };
            let largest = (0..1u32 << times.len()).map(chosen).filter(|set| set.is_sorted()).map(|set| set.len()).max();
            let believed = believed(&times);
            let believed: Vec<Timestamp> =
                times.iter().zip(believed).filter(|(_, believed)| *believed).map(|(time, _)| *time).collect();
            proptest::prop_assert!(believed.is_sorted());
            proptest::prop_assert_eq!(Some(believed.len()), largest);
        }
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let times = ["2026-11-20T22:30:00Z", "2026-11-20T23:30:00Z"];
        let utc = Policy { daily: 2, ..Policy::default() };
        assert_eq!(judge(&utc, &times), ["", "newest daily"]);
        let berlin = Policy { zone: zone("Europe/Berlin"), ..utc };
        assert_eq!(judge(&berlin, &times), ["daily", "newest daily"]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_and_one_that_is_left_out_none() {
        let policy = Policy { hourly: 9, zone: zone("Europe/Berlin"), ..Policy::default() };
        // Half past two in summer time, half past two in winter time.
        assert_eq!(
            judge(&policy, &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]),
            ["hourly", "newest hourly"]
        );
        // Before two, and after three, an hour later.
        assert_eq!(
            judge(&policy, &["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"]),
            ["hourly", "newest hourly"]
        );
        // A day of 25 hours is one day.
        let daily = Policy { hourly: 0, daily: 9, ..policy };
        assert_eq!(judge(&daily, &["2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"]), ["", "newest daily"]);
    }

    #[test]
    fn of_equal_times_the_later_commit_is_the_newer() {
        let times = ["2026-11-20T10:00:00Z"; 3];
        let policy = Policy { hourly: 3, last: 1, ..Policy::default() };
        assert_eq!(judge(&policy, &times), ["", "", "newest last hourly"]);
    }

    #[test]
    fn what_is_dated_in_the_future_is_kept_and_pushes_nothing_out() {
        let policy = Policy { last: 2, daily: 2, yearly: 1, ..Policy::default() };
        let times = [
            "2026-11-25T00:00:00Z",
            "2026-11-26T00:00:00Z",
            "2038-01-19T00:00:00Z",
            "2039-01-19T00:00:00Z",
            "2026-11-27T00:00:00Z",
        ];
        let future = "dated in the future";
        assert_eq!(judge(&policy, &times), ["", "last daily", future, future, "newest last daily yearly"]);
        let within = Policy { within: Some("2d".parse().unwrap()), ..Policy::default() };
        assert_eq!(judge(&within, &times), ["within", "within", future, future, "newest within"]);
        assert_eq!(judge(&policy, &times[2..4]), [future, "newest dated in the future"]);
    }

    #[test]
    fn a_clock_that_was_set_back_pushes_nothing_out() {
        let policy = Policy { daily: 2, last: 1, ..Policy::default() };
        let times =
            ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z", "1970-01-01T00:00:00Z", "2026-11-27T00:00:00Z"];
        assert_eq!(judge(&policy, &times), ["", "daily", "", "newest last daily"]);
        // The newest has the wrong time.
        assert_eq!(judge(&policy, &times[..3]), ["daily", "daily", "newest last"]);
    }

    #[test]
    fn protected_ones_are_kept_and_count_for_no_rule() {
        let policy = Policy { last: 1, daily: 1, ..Policy::default() };
        let mut revisions = ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"].map(candidate);
        revisions[1].protection = Protection::On;
        assert_eq!(shown(&policy.judge(&revisions, time(NOW))), ["last daily", "newest protected"]);
    }

    #[test]
    fn tags_keep_all_that_have_them() {
        let policy = Policy { tags: vec!["a".into(), "b".into()], ..Policy::default() };
        let mut revisions =
            ["2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"].map(candidate);
        revisions[0].tags = vec!["b".into(), "c".into()];
        revisions[1].tags = vec!["c".into()];
        assert_eq!(shown(&policy.judge(&revisions, time(NOW))), ["tag b", "", "newest"]);
    }

    #[test]
    fn times_beyond_the_calendar_do_no_harm() {
        let policy = Policy { daily: 2, within: Some("1d".parse().unwrap()), ..Policy::default() };
        let at = |seconds| Candidate { time: Timestamp { seconds, nanoseconds: 0 }, ..candidate(NOW) };
        let revisions = [at(i64::MIN), at(i64::MAX), at(0)];
        let kept = shown(&policy.judge(&revisions, time(NOW)));
        assert_eq!(kept, ["daily within", "dated in the future", "newest daily within"]);
    }

    #[test]
    fn durations_and_zones_are_read() {
        for text in ["30d", "1y 6mo", "2w", "36h", "90m"] {
            assert!(text.parse::<KeepWithin>().is_ok(), "{text}");
        }
        for text in ["", "30", "d", "0d", "-3d", "three days"] {
            assert!(text.parse::<KeepWithin>().is_err(), "{text}");
        }
        assert!("UTC".parse::<Zone>().is_ok());
        let error = "Europe/Nowhere".parse::<Zone>().unwrap_err().to_string();
        assert!(error.contains("Europe/Nowhere"), "{error}");
    }
}
