//! Whether the wall clock can be judged by.

use std::time::Duration;

use tokio::time::Instant;

/// A wall clock that moves by so many seconds more or less than the monotonic one has been set.
const STEP: f64 = 30.0;

/// For so long after the start the wall clock may still be set, at most.
const START: Duration = Duration::from_secs(120);

/// Both clocks as they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    last: Option<(f64, Instant)>,
    unsure_until: Option<Instant>,
}

/// What the wall clock is good for just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It goes as it should.
    Sure,
    /// It was set too lately.
    Unsure,
    /// It has been set ahead since it was looked at last, or the machine slept: there were no due times meanwhile.
    Jumped,
}

impl Clocks {
    /// Looks at both: the wall clock in unix seconds, and the monotonic one. After the former was set, it is not to be judged by for
    /// as long as `hold`: whoever runs the job may have another clock. The first look is not to be judged by either, for two minutes
    /// at most: a machine that has just started may have no right time yet.
    pub(super) fn look(&mut self, wall: f64, monotonic: Instant, hold: Duration) -> Trust {
        let step = self.step(wall, monotonic);
        self.last = Some((wall, monotonic));
        match step {
            None => self.unsure_until = Some(monotonic + hold.min(START)),
            Some(step) if step.abs() > STEP => {
                self.unsure_until = Some(monotonic + hold);
                return if step > 0.0 { Trust::Jumped } else { Trust::Unsure };
            }
            Some(_) => {}
        }
        if self.is_settled(monotonic) { Trust::Sure } else { Trust::Unsure }
    }

    /// Whether the wall clock can be believed between two looks.
    pub(super) fn trusts(&self, wall: f64, monotonic: Instant) -> bool {
        self.step(wall, monotonic).is_some_and(|step| step.abs() <= STEP) && self.is_settled(monotonic)
    }

    /// By how many seconds the wall clock has been set since it was looked at last; `None` if it never was.
    fn step(&self, wall: f64, monotonic: Instant) -> Option<f64> {
        self.last.map(|(was, at)| wall - was - monotonic.saturating_duration_since(at).as_secs_f64())
    }

    fn is_settled(&self, monotonic: Instant) -> bool {
        self.unsure_until.is_none_or(|until| monotonic >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_not_judged_by_for_a_while() {
        let hold = Duration::from_secs(60);
        let start = Instant::now() + hold;
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut clocks = Clocks::default();
        assert!(!clocks.trusts(1e9, start));
        assert_eq!(clocks.look(1e9 - 60.0, start - hold, hold), Trust::Unsure);
        assert_eq!(clocks.look(1e9 - 1.0, start - Duration::from_secs(1), hold), Trust::Unsure);
        assert_eq!(clocks.look(1e9, start, hold), Trust::Sure);
        assert!(clocks.trusts(1e9 + 1.0, after(1)) && !clocks.trusts(1e9 - 31.0, after(1)));
        // A clock that is slewed is never 30 s wrong from one look to the next.
        assert_eq!(clocks.look(1e9 + 40.0, after(15), hold), Trust::Sure);
        assert_eq!(clocks.look(1e9 + 30.0, after(30), hold), Trust::Sure);
        assert_eq!(clocks.look(1e9 - 3600.0, after(45), hold), Trust::Unsure);
        assert!(!clocks.trusts(1e9 - 3600.0, after(45)));
        assert_eq!(clocks.look(1e9 - 3541.0, after(104), hold), Trust::Unsure);
        assert_eq!(clocks.look(1e9 - 3540.0, after(105), hold), Trust::Sure);
        assert_eq!(clocks.look(1e9, after(120), hold), Trust::Jumped);
        assert_eq!(clocks.look(1e9 + 15.0, after(135), hold), Trust::Unsure);
        assert_eq!(clocks.look(1e9 + 60.0, after(180), hold), Trust::Sure);
    }
}
