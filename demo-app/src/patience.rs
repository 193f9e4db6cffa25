//! Waiting at the start for a server that starts beside us, as containers of one release do.

use std::fmt::Display;
use std::time::Duration;

use crate::clock;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Tries until it works, fails with what does not pass, or `limit` is over; each failure in between is logged.
/// May be dropped at any time.
pub(crate) async fn patiently<T, E: Display>(
    limit: Duration,
    passes: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let last = clock::now() + limit;
    loop {
        match attempt().await {
            Err(error) if passes(&error) && last.left() >= PAUSE => {
                tracing::warn!(%error, "trying again in a second");
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tries(limit: Duration, answers: &[Result<u8, &'static str>]) -> (usize, String) {
        let mut tried = 0;
        let result = patiently(
            limit,
            |error| *error == "away",
            async || {
                let answer = answers[tried.min(answers.len() - 1)];
                tried += 1;
                answer
            },
        )
        .await;
        (tried, format!("{result:?}"))
    }

    #[tokio::test]
    async fn it_waits_for_what_passes_and_no_longer_than_it_may() {
        let minute = Duration::from_mins(1);
        let (tried, result) = tries(minute, &[Err("away"), Ok(7)]).await;
        assert_eq!((tried, result.as_str()), (2, "Ok(7)"));
        let (tried, result) = tries(minute, &[Err("wrong"), Ok(7)]).await;
        assert_eq!((tried, result.as_str()), (1, r#"Err("wrong")"#));
        let (tried, result) = tries(Duration::ZERO, &[Err("away"), Ok(7)]).await;
        assert_eq!((tried, result.as_str()), (1, r#"Err("away")"#));
        let (tried, _) = tries(PAUSE + PAUSE / 2, &[Err("away")]).await;
        assert_eq!(tried, 2);
    }
}
