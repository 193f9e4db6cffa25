//! Two things measured in turns, so that a machine that slows down slows both.

use std::{future::Future, time::Duration};

use pawl_kit::clock::Clock;

use crate::Error;

/// How often each of the two is measured.
pub const ROUNDS: usize = 9;

/// Two things measured in turns.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// The median of the rounds' ratios, ours to the reference.
    pub ratio: f64,
    /// The median time of ours.
    pub ours: Duration,
    /// The median time of the reference.
    pub reference: Duration,
}

/// Measures `ours` and `reference` in turns, after one round of each to warm up, and compares what one cycle takes. Each call runs a
/// round and answers with how many cycles it ran.
///
/// # Errors
/// The first error of a round.
pub async fn compare<Ours, Reference>(
    mut ours: impl FnMut() -> Ours,
    mut reference: impl FnMut() -> Reference,
) -> Result<Compared, Error>
where
    Ours: Future<Output = Result<u32, Error>>,
    Reference: Future<Output = Result<u32, Error>>,
{
    let clock = Clock::system();
    ours().await?;
    reference().await?;
    let (mut ratios, mut mine, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let a = time(&clock, ours()).await?;
        let b = time(&clock, reference()).await?;
        ratios.push(a / b);
        mine.push(a);
        theirs.push(b);
    }
    Ok(Compared {
        ratio: median(&mut ratios),
        ours: Duration::from_secs_f64(median(&mut mine)),
        reference: Duration::from_secs_f64(median(&mut theirs)),
    })
}

async fn time(
    clock: &Clock,
    round: impl Future<Output = Result<u32, Error>>,
) -> Result<f64, Error> {
    let start = clock.now();
    let cycles = round.await?;
    Ok(clock.now().saturating_since(start).as_secs_f64() / f64::from(cycles))
}

/// The middle one; the mean of the two middle ones where their number is even.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// Jain's index of fairness: 1 when all shares are equal, 1/n when one has all.
///
/// "A Quantitative Measure of Fairness and Discrimination", DEC TR-301, 1984.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    #[expect(clippy::cast_precision_loss, reason = "a handful of shares")]
    let count = shares.len() as f64;
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (count * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_for_equals_and_one_nth_for_one_who_has_all() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[8.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn the_median_ignores_outliers() {
        assert!((median(&mut [1.0, 900.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&mut [4.0, 1.0, 2.0, 900.0]) - 3.0).abs() < 1e-9);
    }
}
