use super::*;

#[test]
fn an_end_that_is_near_is_told_until_it_is_not() {
    let readiness = Readiness::new();
    let concern = readiness.concern("certificate");
    let now = Clock::manual().0.wall();
    let in_seconds = |seconds: i64| now.unix_seconds() + seconds;
    let is_told = || format!("{readiness:?}").contains("ends in");
    for (left, expected) in [(3_601, false), (3_600, true), (-5, true), (86_400, false)] {
        tell_end(in_seconds(left), now, &concern);
        assert_eq!(is_told(), expected, "{left} s left");
    }
}
