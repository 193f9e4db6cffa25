//! The bounds of what the bank accepts, and the checks that hold them.

use std::time::Duration;

use super::problem::BankError;

/// The largest balance or amount, in units: a thousand billion.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000;
/// The largest fencing token, 2^53 - 1: what JSON numbers carry exactly.
pub const MAX_TOKEN: i64 = (1 << 53) - 1;
/// The longest `X-Simulate-Delay`.
pub const MAX_DELAY: Duration = Duration::from_mins(5);
/// The largest request body, in bytes.
pub const MAX_BODY: usize = 8 << 10;
/// Connections served at once.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a request's head or body may take.
pub const READ_LIMIT: Duration = Duration::from_secs(10);

/// A name of an account or an order: 1 to 64 of letters, digits, `.`, `_` and `-`, not `.` or `..`.
pub fn check_name(what: &str, name: &str) -> Result<(), BankError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(known) && name != "." && name != ".." {
        return Ok(());
    }
    Err(BankError::Invalid(format!(
        "{what}: write 1 to 64 of A-Z a-z 0-9 . _ -"
    )))
}

/// An amount of money: 1 to [`MAX_AMOUNT`].
pub fn check_amount(what: &str, amount: i64) -> Result<(), BankError> {
    if (1..=MAX_AMOUNT).contains(&amount) {
        return Ok(());
    }
    Err(BankError::Invalid(format!(
        "{what}: write a whole number of units from 1 to {MAX_AMOUNT}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_keys() {
        for good in ["ann", "a.b_c-9", &"x".repeat(64)] {
            assert!(check_name("userId", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(65)] {
            assert!(check_name("userId", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn amounts_have_bounds() {
        assert!(check_amount("amount", 1).is_ok() && check_amount("amount", MAX_AMOUNT).is_ok());
        assert!(
            check_amount("amount", 0).is_err() && check_amount("amount", MAX_AMOUNT + 1).is_err()
        );
        assert!(check_amount("amount", i64::MIN).is_err());
    }
}
