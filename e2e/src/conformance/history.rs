//! What happened, and whether it may have.

use pawl_lock::{BackendToken, lease::Mode};
use tokio::time::Instant;

/// One hold as its sidecar believed it.
#[derive(Clone, Debug)]
pub struct Belief {
    /// What was held.
    pub key: usize,
    /// How.
    pub mode: Mode,
    /// Its token.
    pub token: BackendToken,
    /// When it was asked for.
    pub asked: Instant,
    /// When the grant was answered: belief begins.
    pub granted: Instant,
    /// When its release was asked for, it was found lost, or its deadline came: belief ended.
    pub ended: Instant,
}

/// Why a history must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two that exclude each other were believed at the same time.
    TwoBelievers(BackendToken, BackendToken),
    /// Two grants had one token.
    SameToken(BackendToken),
    /// A grant that was asked for after another was answered has a smaller token.
    TokenFell(BackendToken, BackendToken),
}

/// Looks at each pair of beliefs about the same key.
///
/// # Errors
/// The first fault.
pub fn check(beliefs: &[Belief]) -> Result<(), Fault> {
    for (index, a) in beliefs.iter().enumerate() {
        for b in &beliefs[..index] {
            if a.key == b.key {
                check_pair(a, b)?;
            }
        }
    }
    Ok(())
}

fn check_pair(a: &Belief, b: &Belief) -> Result<(), Fault> {
    if a.token == b.token {
        return Err(Fault::SameToken(a.token));
    }
    let (first, later) = if a.token < b.token { (a, b) } else { (b, a) };
    if first.asked > later.granted {
        return Err(Fault::TokenFell(later.token, first.token));
    }
    let overlap = a.granted < b.ended && b.granted < a.ended;
    if overlap && !a.mode.is_compatible(b.mode) {
        return Err(Fault::TwoBelievers(first.token, later.token));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn beliefs(rows: &[(Mode, u64, [u64; 3])]) -> Vec<Belief> {
        let zero = Instant::now();
        let at = |millis| zero + Duration::from_millis(millis);
        rows.iter()
            .map(|(mode, token, [asked, granted, ended])| Belief {
                key: 0,
                mode: *mode,
                token: token_of(*token),
                asked: at(*asked),
                granted: at(*granted),
                ended: at(*ended),
            })
            .collect()
    }

    fn token_of(token: u64) -> BackendToken {
        BackendToken::try_new(token).unwrap()
    }

    #[test]
    fn good_histories_pass() {
        let (x, s) = (Mode::Exclusive, Mode::Shared);
        let one_after_another = beliefs(&[(x, 1, [0, 1, 5]), (x, 2, [2, 5, 9]), (x, 7, [9, 9, 9])]);
        assert_eq!(check(&one_after_another), Ok(()));
        let shared = beliefs(&[(s, 1, [0, 1, 9]), (s, 2, [2, 3, 9]), (x, 3, [4, 9, 10])]);
        assert_eq!(check(&shared), Ok(()));
        let mut two_keys = beliefs(&[(x, 1, [0, 1, 5]), (x, 1, [0, 1, 5])]);
        two_keys[1].key = 1;
        assert_eq!(check(&two_keys), Ok(()));
    }

    #[test]
    fn bad_histories_do_not() {
        let (x, s) = (Mode::Exclusive, Mode::Shared);
        let (one, two) = (token_of(1), token_of(2));
        for (history, fault) in [
            (
                beliefs(&[(x, 1, [0, 1, 5]), (x, 2, [2, 4, 9])]),
                Fault::TwoBelievers(one, two),
            ),
            (
                beliefs(&[(s, 1, [0, 1, 5]), (x, 2, [2, 4, 9])]),
                Fault::TwoBelievers(one, two),
            ),
            (
                beliefs(&[(x, 1, [0, 1, 5]), (x, 1, [6, 7, 9])]),
                Fault::SameToken(one),
            ),
            (
                beliefs(&[(x, 2, [0, 1, 5]), (x, 1, [6, 7, 9])]),
                Fault::TokenFell(two, one),
            ),
            (
                beliefs(&[(s, 2, [0, 1, 5]), (s, 1, [2, 3, 9])]),
                Fault::TokenFell(two, one),
            ),
        ] {
            assert_eq!(check(&history), Err(fault));
        }
    }
}
