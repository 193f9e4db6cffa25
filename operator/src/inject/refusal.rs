//! Why a pod is refused.

use std::fmt::Display;

/// The most of a user's text that is repeated in a refusal, in characters.
const MAX_SHOWN: usize = 64;
/// The most reasons that are told at once.
const MAX_REASONS: usize = 20;

/// One reason why a pod is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {problem}; {remedy}")]
pub struct Refusal {
    at: String,
    problem: String,
    remedy: String,
}

impl Refusal {
    /// `at` is an annotation or a field, `problem` what is wrong with it, `remedy` what to do.
    pub(super) fn new(at: impl Display, problem: impl Display, remedy: impl Display) -> Self {
        Self {
            at: at.to_string(),
            problem: problem.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

/// All of them as the caller sees them.
pub(super) fn joined(refusals: &[Refusal]) -> String {
    let mut told: Vec<String> = refusals
        .iter()
        .take(MAX_REASONS)
        .map(ToString::to_string)
        .collect();
    if refusals.len() > MAX_REASONS {
        told.push(format!("and {} more", refusals.len() - MAX_REASONS));
    }
    told.join(" | ")
}

/// What a user wrote, in quotes, short and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_SHOWN)
        .collect();
    if text.chars().count() > MAX_SHOWN {
        short.push('…');
    }
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_little_and_ends_somewhere() {
        assert_eq!(shown("a\nb"), "`a b`");
        assert_eq!(shown(&"x".repeat(99)).chars().count(), MAX_SHOWN + 3);
        let many = vec![Refusal::new("a", "b", "c"); 23];
        assert!(joined(&many).ends_with("| and 3 more"));
    }
}
