//! Fencing tokens: what a resource compares to refuse a holder that is late.
//!
//! See [How to do distributed locking](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).

use std::fmt;

/// How many leases one hold can serve before it must be taken anew.
pub const LEASES_PER_HOLD: u16 = 1024;

/// The token `T` that a backend gave to a hold: 1 <= T < 2^43, larger for every later hold of the same key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendToken(u64);

/// The token of a lease: 1 <= t < 2^53 (exact in a JSON number read as a double), unique per (policy, key), larger for
/// every later grant. It is `T * 1024 + n`, `n` counting the leases of the hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

/// A number that cannot be the token it was meant for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a token lies between 1 and {most}, and {token} does not")]
pub struct InvalidToken {
    token: u64,
    most: u64,
}

impl BackendToken {
    /// The smallest token.
    pub const MIN: Self = Self(1);
    /// The largest token, 2^43 - 1.
    pub const MAX: Self = Self((1 << 43) - 1);

    /// A backend's token.
    ///
    /// # Errors
    /// [`InvalidToken`] outside [`BackendToken::MIN`] to [`BackendToken::MAX`].
    pub const fn try_new(token: u64) -> Result<Self, InvalidToken> {
        if token >= Self::MIN.0 && token <= Self::MAX.0 {
            Ok(Self(token))
        } else {
            Err(InvalidToken {
                token,
                most: Self::MAX.0,
            })
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The fencing token of the lease number `n` of this hold, or nothing when the hold has served them all
    /// (`n >= 1024`) and must be taken anew.
    pub const fn lease(self, n: u16) -> Option<FencingToken> {
        if n < LEASES_PER_HOLD {
            Some(FencingToken(self.0 * LEASES_PER_HOLD as u64 + n as u64))
        } else {
            None
        }
    }
}

impl FencingToken {
    /// The smallest token.
    pub const MIN: Self = Self(1);
    /// The largest token, 2^53 - 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// A fencing token that a caller brought.
    ///
    /// # Errors
    /// [`InvalidToken`] outside [`FencingToken::MIN`] to [`FencingToken::MAX`].
    pub const fn try_new(token: u64) -> Result<Self, InvalidToken> {
        if token >= Self::MIN.0 && token <= Self::MAX.0 {
            Ok(Self(token))
        } else {
            Err(InvalidToken {
                token,
                most: Self::MAX.0,
            })
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

macro_rules! shown_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
shown_as_number!(BackendToken, FencingToken);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_of_a_hold_climb_and_stay_below_those_of_the_next_hold() {
        let hold = BackendToken::try_new(7).unwrap();
        let next = BackendToken::try_new(8).unwrap();
        let tokens: Vec<_> = (0..LEASES_PER_HOLD)
            .map(|n| hold.lease(n).unwrap())
            .collect();
        assert!(tokens.is_sorted_by(|a, b| a < b));
        assert!(tokens.last() < next.lease(0).as_ref());
        assert_eq!(
            hold.lease(LEASES_PER_HOLD),
            None,
            "then the hold must be taken anew"
        );
    }

    #[test]
    fn the_largest_token_is_exact_in_a_double() {
        let largest = BackendToken::MAX.lease(LEASES_PER_HOLD - 1);
        assert_eq!(largest, Some(FencingToken::MAX));
        assert_eq!(FencingToken::MAX.get(), (1 << 53) - 1);
    }

    #[test]
    fn zero_and_too_large_tokens_are_refused() {
        assert!(BackendToken::try_new(0).is_err() && BackendToken::try_new(1 << 43).is_err());
        assert!(FencingToken::try_new(0).is_err() && FencingToken::try_new(1 << 53).is_err());
        assert!(FencingToken::try_new(1).is_ok() && FencingToken::try_new((1 << 53) - 1).is_ok());
    }
}
