//! The units that a limit's window is counted in.

/// A unit of time. Months and years are of fixed length, as in Envoy: 30 and 365 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// 1 second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds.
    Day,
    /// 7 days; a window aligned to the Unix epoch turns on Thursdays, 00:00 UTC.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    /// The longest window: 100 years, in seconds.
    pub const WINDOW_S_MAX: u64 = 100 * 365 * 86_400;

    /// All of them, the shortest first.
    pub const ALL: [Self; 7] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
    ];

    /// The unit's length in seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// The length of `multiplier` units in seconds; `None` for 0 or above [`Unit::WINDOW_S_MAX`].
    #[must_use]
    pub fn window_s(self, multiplier: u32) -> Option<u64> {
        let window_s = self.seconds() * u64::from(multiplier);
        (1..=Self::WINDOW_S_MAX).contains(&window_s).then_some(window_s)
    }

    /// Its name in a policy file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The unit called `name`, in any mix of cases.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|unit| unit.name().eq_ignore_ascii_case(name))
    }

    /// Its name on the wire, as Envoy and the reference server print it.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Second => "SECOND",
            Self::Minute => "MINUTE",
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }
}
