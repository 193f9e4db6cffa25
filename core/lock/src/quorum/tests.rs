use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn quorum(nodes: usize) -> Quorum {
    Quorum::try_new(nodes).unwrap()
}

fn token(number: u64) -> BackendToken {
    BackendToken::try_new(number).unwrap()
}

fn verdict(nodes: usize, votes: &[Vote]) -> Verdict {
    let mut ballot = Ballot::new(quorum(nodes));
    for vote in votes {
        ballot.count(*vote);
    }
    ballot.verdict()
}

#[test]
fn only_odd_numbers_from_three_to_fifteen_decide() {
    let good: Vec<usize> = (0..40).filter(|n| Quorum::try_new(*n).is_ok()).collect();
    assert_eq!(good, [3, 5, 7, 9, 11, 13, 15]);
    assert_eq!([3, 5, 15].map(|n| quorum(n).majority()), [2, 3, 8]);
    assert!(Quorum::try_new(usize::MAX).is_err());
}

#[test]
fn a_verdict_comes_as_soon_as_it_is_certain() {
    use Vote::{Granted, Refused, Silent};
    let (low, high) = (Granted(token(7)), Granted(token(9)));
    for (votes, expected) in [
        (&[][..], Verdict::Open),
        (&[low, low], Verdict::Open),
        (&[low, low, low], Verdict::Granted(token(7))),
        (&[low, Silent, low, Silent, low], Verdict::Granted(token(7))),
        (&[low, high, low], Verdict::Raise(token(9))),
        (&[high, low, low, low], Verdict::Granted(token(7))),
        (&[Refused, Refused], Verdict::Open),
        (&[Refused, Refused, Refused], Verdict::Busy),
        (&[low, Refused, Refused, Silent], Verdict::Busy),
        (&[low, low, Refused, Refused, Silent], Verdict::Busy),
        (&[Refused, Silent, Silent], Verdict::Open),
        (&[Refused, Silent, Silent, low], Verdict::Open),
        (&[Silent, Silent], Verdict::Open),
        (&[Silent, Silent, Silent], Verdict::Unreachable),
        (&[low, Silent, Silent, Silent], Verdict::Unreachable),
    ] {
        assert_eq!(verdict(5, votes), expected, "{votes:?}");
    }
}

#[test]
fn retrying_makes_sense_when_enough_nodes_are_free() {
    let seconds = |of: &[u64]| {
        of.iter()
            .map(|n| Duration::from_secs(*n))
            .collect::<Vec<_>>()
    };
    let mut ballot = Ballot::new(quorum(5));
    ballot.count(Vote::Granted(token(1)));
    assert_eq!(
        ballot.retry_in(seconds(&[9, 2, 5])),
        Some(Duration::from_secs(5))
    );
    assert_eq!(ballot.retry_in(seconds(&[9])), None);
    assert_eq!(Ballot::new(quorum(3)).retry_in(Vec::new()), None);
}

#[test]
fn a_node_counts_when_what_it_forgot_is_over() {
    let ttl = Ttl::try_new(Duration::from_secs(5)).unwrap();
    assert!(!counts(Duration::ZERO, ttl));
    assert!(!counts(Duration::from_secs(6), ttl));
    assert!(counts(Duration::from_millis(6_001), ttl));
}

#[test]
fn a_grant_is_worth_nothing_at_its_deadline() {
    let ttl = Ttl::try_new(Duration::from_secs(1)).unwrap();
    let start = Instant::from_nanos(5);
    let after = |millis| start.saturating_add(Duration::from_millis(millis));
    assert!(is_worth(start, after(987), ttl));
    assert!(!is_worth(start, after(988), ttl));
}

fn a_vote() -> impl Strategy<Value = Vote> {
    prop_oneof![
        (1..4_u64).prop_map(|n| Vote::Granted(token(n))),
        Just(Vote::Refused),
        Just(Vote::Silent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Once told, a verdict stands whatever comes; and when all have voted there is one.
    #[test]
    fn verdicts_are_final(nodes in select(vec![3, 5, 7, 15]), votes in vec(a_vote(), 15)) {
        let mut ballot = Ballot::new(quorum(nodes));
        let mut told = Verdict::Open;
        for vote in &votes[..nodes] {
            ballot.count(*vote);
            let now = ballot.verdict();
            match told {
                Verdict::Open => {}
                // More answers can only make an agreement of a disagreement.
                Verdict::Raise(_) => prop_assert!(matches!(now, Verdict::Raise(_) | Verdict::Granted(_))),
                _ => prop_assert_eq!(now, told),
            }
            told = now;
        }
        prop_assert_ne!(told, Verdict::Open);
    }

    /// Attempts come to nodes in any order, with any proposals; each gets a majority's number if it gets one at all.
    /// Numbers are unique, and larger than those of all attempts that were decided before.
    #[test]
    fn tokens_are_unique_and_climb(
        attempts in vec((1..40_u64, vec(0..3_usize, 5), vec(any::<bool>(), 20)), 2..6),
    ) {
        let quorum = quorum(5);
        let mut last = [0_u64; 5];
        let mut decided: Vec<u64> = Vec::new();
        // All attempts are shared holders at once: the worst case for uniqueness.
        let mut own: Vec<[Option<u64>; 5]> = vec![[None; 5]; attempts.len()];
        for round in 0..3 {
            for (index, (proposed, when, _)) in attempts.iter().enumerate() {
                for node in 0..5 {
                    if when[node] == round {
                        last[node] = assign(last[node], *proposed);
                        own[index][node] = Some(last[node]);
                    }
                }
            }
        }
        for (index, (_, _, heard)) in attempts.iter().enumerate() {
            let before = decided.clone();
            for step in 0..4 {
                let answers: Vec<BackendToken> =
                    own[index].iter().flatten().map(|number| token(*number)).collect();
                if let Some(agreed) = quorum.agreed(&answers) {
                    prop_assert!(!before.contains(&agreed.get()), "{agreed} twice");
                    decided.push(agreed.get());
                    break;
                }
                let Some(largest) = answers.iter().max() else { break };
                for node in 0..5 {
                    if let (Some(number), true) = (own[index][node], heard[step * 5 + node]) {
                        let raised = raise(last[node], number, largest.get());
                        last[node] = last[node].max(raised);
                        own[index][node] = Some(raised);
                    }
                }
            }
        }
        // One that comes after all is above all, whichever majority it meets.
        if let Some(highest) = decided.iter().max() {
            for first in 0..3 {
                let numbers = (first..first + 3).map(|node| assign(last[node], 1));
                prop_assert!(numbers.max() > Some(*highest));
            }
        }
    }
}
