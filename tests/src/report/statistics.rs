//! The statistics of a bench, and rounds that are fair to all contenders.
//!
//! It takes numbers and gives numbers; what they mean, and their unit, the
//! bench knows.

/// The middle value; of an even number of values, the mean of the two middle ones.
///
/// # Panics
/// When there are no values: a bench that measured nothing is wrong.
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The smallest value that at least `percent` percent of the values do not
/// exceed (nearest rank): always one that was measured.
///
/// # Panics
/// When there are no values, or `percent` is not between 0 and 100.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    assert!((0.0..=100.0).contains(&percent), "{percent} is no percentage");
    let sorted = sorted(values);
    // Divided last: 99.9 % of 1,000 must be 999, not a hair more.
    let rank = (percent * sorted.len() as f64 / 100.0).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Runs each contender once to warm up, then `count` times, taking turns.
///
/// Machines drift: with turns the drift meets all contenders alike. Each round
/// begins with another contender, so that none always follows the same one.
/// A contender returns its figure, in a unit that all of them share.
///
/// # Panics
/// When `count` is 0.
pub fn rounds<'a>(count: usize, contenders: &mut [(&'a str, &mut dyn FnMut() -> f64)]) -> Rounds<'a> {
    assert!(count > 0, "no rounds, no figures");
    for (_, run) in contenders.iter_mut() {
        run();
    }
    let mut samples = vec![Vec::with_capacity(count); contenders.len()];
    for round in 0..count {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            samples[index].push((contenders[index].1)());
        }
    }
    Rounds { names: contenders.iter().map(|(name, _)| *name).collect(), samples }
}

/// What [`rounds`] measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounds<'a> {
    names: Vec<&'a str>,
    samples: Vec<Vec<f64>>,
}

impl<'a> Rounds<'a> {
    /// The contenders, in the order in which they were given.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.names.iter().copied()
    }

    /// The contender's figures, by round.
    ///
    /// # Panics
    /// As all methods that take a name: when no contender has it.
    pub fn samples(&self, name: &str) -> &[f64] {
        let index = self.names.iter().position(|known| *known == name);
        &self.samples[index.unwrap_or_else(|| panic!("no contender is named {name}"))]
    }

    /// The median over the rounds.
    pub fn median(&self, name: &str) -> f64 {
        median(self.samples(name))
    }

    /// The median of what `name` takes more than `baseline` in the same round.
    /// Steadier than the difference of medians when the machine drifts.
    pub fn median_difference(&self, name: &str, baseline: &str) -> f64 {
        self.paired(name, baseline, |value, base| value - base)
    }

    /// The median of how many times `baseline` in the same round `name` takes.
    pub fn median_ratio(&self, name: &str, baseline: &str) -> f64 {
        self.paired(name, baseline, |value, base| value / base)
    }

    fn paired(&self, name: &str, baseline: &str, compare: impl Fn(f64, f64) -> f64) -> f64 {
        let pairs = self.samples(name).iter().zip(self.samples(baseline));
        median(&pairs.map(|(value, base)| compare(*value, *base)).collect::<Vec<_>>())
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "no values, no statistics");
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn percentile_is_always_a_measured_value() {
        let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.0), 1.0);
        assert_eq!(percentile(&values, 50.0), 500.0);
        assert_eq!(percentile(&values, 99.9), 999.0);
        assert_eq!(percentile(&values, 100.0), 1000.0);
        assert_eq!(percentile(&[5.0], 99.0), 5.0);
    }

    #[test]
    #[should_panic(expected = "no values")]
    fn no_values_have_no_median() {
        median(&[]);
    }

    #[test]
    fn rounds_warm_up_and_take_turns() {
        let order = RefCell::new(String::new());
        let turn = |letter: char, figure: f64| {
            let order = &order;
            move || {
                order.borrow_mut().push(letter);
                figure
            }
        };
        let (mut a, mut b) = (turn('a', 2.0), turn('b', 5.0));
        let measured = rounds(3, &mut [("a", &mut a), ("b", &mut b)]);

        assert_eq!(*order.borrow(), "ababbaab");
        assert_eq!(measured.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(measured.samples("b"), [5.0; 3]);
        assert_eq!(measured.median("a"), 2.0);
    }

    #[test]
    fn paired_figures_cancel_drift() {
        // The machine gets slower with each run; the second always takes 1 more.
        let (mut first_drift, mut second_drift) = (0.0, 0.0);
        let mut first = || {
            first_drift += 10.0;
            first_drift
        };
        let mut second = || {
            second_drift += 10.0;
            second_drift + 1.0
        };
        let measured = rounds(3, &mut [("first", &mut first), ("second", &mut second)]);
        assert_eq!(measured.median_difference("second", "first"), 1.0);
        assert_eq!(measured.median_ratio("second", "first"), 31.0 / 30.0);
    }
}
