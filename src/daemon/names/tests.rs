use super::*;

fn name(raw: &str) -> ConnectionName {
    ConnectionName::new(raw.as_bytes()).unwrap()
}

fn stored<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

#[test]
fn the_names_that_pluto_makes_are_kept_as_they_are() {
    for text in [
        "net-net",
        "subnets/1x2",
        "private#10.0.0.0/8-(6--80--0)",
        "100%",
        "a b=c",
        "\"quoted\"",
    ] {
        assert_eq!(name(text).as_str(), text);
    }
}

#[test]
fn different_names_stay_different() {
    assert_eq!(name("a\\b").as_str(), "a\\x5cb");
    assert_eq!(ConnectionName::new(b"a\xffb\n").unwrap().as_str(), "a\\xffb\\x0a");
    assert_ne!(name("a\\x0a"), name("a\n"));
}

#[test]
fn a_name_has_1_to_1024_bytes() {
    assert!(ConnectionName::new(b"").is_err());
    assert!(ConnectionName::new(&[b'a'; 1024]).is_ok());
    assert!(ConnectionName::new(&[0xff; 1024]).is_ok());
    assert!(ConnectionName::new(&[b'a'; 1025]).is_err());
}

#[test]
fn a_stored_name_comes_back_in_its_one_form_only() {
    for raw in [&b"net-net"[..], b"a\\b", b"\xff\n\x7f", &[0xff; 1024]] {
        let name = ConnectionName::new(raw).unwrap();
        assert_eq!(stored(name.as_str()), Some(name));
    }
    for text in [
        "",
        "a\\",
        "a\\x",
        "a\\x5",
        "a\\y41",
        "a\\x41",
        "a\\xFF",
        "a\n",
        "\u{e4}",
        "a\\\u{e4}\u{e4}",
        "\\x+1",
    ] {
        assert_eq!(stored::<ConnectionName>(text), None, "{text:?}");
    }
}

#[test]
fn a_slug_is_readable_and_begins_and_ends_with_a_letter_or_digit() {
    assert_eq!(name("net-net").slug(16), "net-net");
    assert_eq!(name("subnets/1x2").slug(16), "subnets-1x2");
    assert_eq!(
        name("private#10.0.0.0/8-(6--80--0)").slug(64),
        "private-10.0.0.0-8-6-80-0"
    );
    assert_eq!(name("B\u{fc}ro").slug(16), "B-ro");
    assert_eq!(name("-._x_.-").slug(16), "x");
    assert_eq!(name("a\\x41").slug(16), "a-x41");
}

#[test]
fn a_slug_is_cut_and_does_not_end_in_a_dash_for_it() {
    assert_eq!(name("abc-def").slug(4), "abc");
    assert_eq!(name("abc-def").slug(5), "abc-d");
    assert_eq!(name("abc").slug(0), "");
}

#[test]
fn a_name_without_anything_readable_is_called_tunnel() {
    assert_eq!(name("///").slug(16), "tunnel");
    assert_eq!(name("\u{4e2d}\u{6587}").slug(16), "tunnel");
    assert_eq!(name("._-").slug(3), "tun");
}

#[test]
fn a_comment_has_a_safe_alphabet_and_128_bytes() {
    assert_eq!(
        name("private#10.0.0.0/8-(6--80--0)").comment(),
        "private#10.0.0.0/8-(6--80--0)"
    );
    assert_eq!(name("a\"b'c`d$e\\f;g\nh\u{e4}").comment(), "a_b_c_d_e_f_g_h__");
    assert_eq!(name(&"a".repeat(200)).comment(), "a".repeat(128));
    assert_eq!(ConnectionName::new(&[0xff; 200]).unwrap().comment(), "_".repeat(128));
}

#[test]
fn a_text_of_the_peer_cannot_control_a_terminal_or_break_a_line() {
    assert_eq!(
        PeerText::new(b"C=CH, O=$(id), CN=a'b\"c").as_str(),
        "C=CH, O=$(id), CN=a'b\"c"
    );
    assert_eq!(
        PeerText::new(b"a\nb\x1b[2J\x7f\xc3\xa4").as_str(),
        r"a\x0ab\x1b[2J\x7f\xc3\xa4"
    );
}

#[test]
fn a_text_of_the_peer_has_one_form_and_gives_its_bytes_back() {
    let text = PeerText::new(br"CN=O\047Neil");
    assert_eq!(text.as_str(), r"CN=O\x5c047Neil");
    assert_eq!(text.bytes(), br"CN=O\047Neil");
    // As an older version recorded it.
    let old: PeerText = stored(r"CN=O\047Neil\xc3").unwrap();
    assert_eq!(old.bytes(), b"CN=O\\047Neil\xc3");
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    let whole = PeerText::new(&[b'a'; 510]);
    assert_eq!((whole.as_str(), whole.is_cut()), ("a".repeat(510).as_str(), false));
    let cut = PeerText::new(&[b'a'; 511]);
    assert_eq!(cut.as_str(), format!(r"{}\...", "a".repeat(510)));
    assert!(cut.is_cut());
    assert_eq!(cut.bytes(), [b'a'; 510]);
    assert_eq!(PeerText::new(&[0xff; 100_000]).bytes(), [0xff; 510]);
    assert!(!PeerText::new(br"a\...").is_cut());
}

#[test]
fn a_stored_text_is_checked() {
    for raw in [&b""[..], b"@east", br"\047", &[0xff; 1000]] {
        let text = PeerText::new(raw);
        assert_eq!(stored(text.as_str()), Some(text));
    }
    assert_eq!(stored::<PeerText>("a\nb"), None);
    assert_eq!(stored::<PeerText>("\u{e4}"), None);
    assert_eq!(stored::<PeerText>(&"a".repeat(2045)), None);
}
