use super::*;

const KNOWN: &[&str] = &["ttl", "n", "keys"];

fn error(body: &[u8]) -> BodyError {
    fields(body, KNOWN).expect_err("the body is wrong")
}

fn only(body: &str) -> Given<'_> {
    let mut fields = fields(body.as_bytes(), KNOWN).unwrap();
    assert_eq!(fields.len(), 1);
    fields.remove(0).1
}

#[test]
fn nothing_is_an_object_without_fields() {
    assert!(fields(b"", KNOWN).unwrap().is_empty());
    assert!(fields(b" {} ", KNOWN).unwrap().is_empty());
}

#[test]
fn what_is_no_json_is_told_from_what_is_no_object() {
    for wrong in [
        &b"{"[..],
        b"{}{}",
        b"{} x",
        b" ",
        b"\xef\xbb\xbf{}",
        b"{\"ttl\":\"\xff\"}",
        b"{\"ttl\":\"\\ud800\"}",
        b"{\"ttl\":\"\\ud800\\u0041\"}",
        b"{\"n\":NaN}",
        b"{\"n\":01}",
        b"{\"n\":1e999}",
        b"{'n':1}",
        b"{\"n\":1,}",
        b"{\"n\":Infinity}",
        b"nope",
        b"{\"\xff\":1}",
        b"{\"n\":{\"a\":\"\xff\"}}",
        b"{\"ttl\":\"\x01\"}",
    ] {
        assert!(matches!(error(wrong), BodyError::NotJson(_)), "{wrong:?}");
    }
    for wrong in [&b"[]"[..], b"1", b"null", b"\"x\"", b"true", b"[[[[]]]]"] {
        assert_eq!(error(wrong), BodyError::NotAnObject, "{wrong:?}");
    }
}

#[test]
fn nesting_without_end_is_refused_and_does_not_end_the_stack() {
    let lists = "[".repeat(2000) + &"]".repeat(2000);
    assert!(fields(lists.as_bytes(), KNOWN).is_err());
    let objects = "{\"n\":".repeat(600) + "1" + &"}".repeat(600);
    let value = fields(objects.as_bytes(), KNOWN);
    assert!(value.is_err() || matches!(value.unwrap()[0].1, Given::Nested));
}

#[test]
fn unknown_and_duplicate_fields_are_named() {
    assert_eq!(
        error(b"{\"ttl\":\"1s\",\"tll\":1}"),
        BodyError::Unknown {
            field: "tll".to_owned(),
            known: KNOWN
        }
    );
    assert_eq!(
        error(b"{\"n\":1,\"\\u006e\":2}"),
        BodyError::Duplicate {
            field: "n".to_owned()
        }
    );
    let long = format!("{{\"{}\":1}}", "x".repeat(1000));
    assert!(error(long.as_bytes()).to_string().len() < 200);
}

#[test]
fn values_are_what_their_field_wants() {
    let long = only("{\"ttl\":\"1h30m\"}");
    assert_eq!(long.duration("ttl", "10s"), Ok(Duration::from_mins(90)));
    for wrong in ["-1s", "1", "1.5s", "1 s", "", "1d", "999999s", "s"] {
        let body = format!("{{\"ttl\":\"{wrong}\"}}");
        let error = only(&body).duration("ttl", "10s").unwrap_err().to_string();
        assert!(
            error.starts_with("ttl is refused") && error.ends_with("for example 10s"),
            "{error}"
        );
    }
    for wrong in ["1", "null", "true", "[]", "{}", "[\"1s\"]"] {
        let body = format!("{{\"ttl\":{wrong}}}");
        let error = only(&body).duration("ttl", "10s").unwrap_err().to_string();
        assert!(error.contains("and not a text"), "{error}");
    }
    let word = only("{\"ttl\":\"b\"}");
    assert_eq!(word.word("ttl", &[("a", 1), ("b", 2)], "a"), Ok(2));
    let error = word.word("ttl", &[("a", 1), ("c", 2)], "a").unwrap_err();
    assert!(error.to_string().contains("none of a, c"), "{error}");
    let keys = only("{\"keys\":[\"a\",\"b\"]}");
    let texts: Result<Vec<&str>, _> = keys.texts("keys", "[]").unwrap().collect();
    assert_eq!(texts, Ok(vec!["a", "b"]));
    let keys = only("{\"keys\":[\"a\",[\"b\"]]}");
    assert!(keys.texts("keys", "[]").unwrap().any(|text| text.is_err()));
}

#[test]
fn whole_numbers_are_whole_in_range_and_exact() {
    let most = (1 << 53) - 1;
    for (text, expected) in [
        ("1", Some(1)),
        ("9007199254740991", Some(most)),
        ("7.0", Some(7)),
        ("1e3", Some(1000)),
        ("0", None),
        ("-1", None),
        ("-9223372036854775808", None),
        ("7.5", None),
        ("9007199254740992", None),
        ("9007199254740993", None),
        ("18446744073709551616", None),
        ("1e308", None),
        ("\"1\"", None),
    ] {
        let body = format!("{{\"n\":{text}}}");
        assert_eq!(
            only(&body).whole("n", 1, most, "1").ok(),
            expected,
            "{text}"
        );
    }
}
