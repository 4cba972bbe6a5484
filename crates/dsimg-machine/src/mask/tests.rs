use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

const SECRET: &str = "p@ss 'word'/\"ü\\x$";

fn masker(secrets: &[&str]) -> Arc<Masker> {
    Arc::new(Masker::new(secrets.iter().copied()))
}

/// Small, fast, and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn texts_are_covered_in_every_form() {
    let masker = masker(&[SECRET]);
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let forms = [
        SECRET.to_owned(),
        SECRET.replace('\'', r"'\''"),
        r#"p@ss 'word'/\"ü\\x\$"#.to_owned(),
        r#"p@ss\ \'word\'/\"ü\\x\$"#.to_owned(),
        serde_json::to_string(SECRET).unwrap().trim_matches('"').to_owned(),
        r#"p@ss 'word'/\"\u00fc\\x$"#.to_owned(),
        r#"p@ss 'word'\/\"ü\\x$"#.to_owned(),
        "p%40ss%20%27word%27%2F%22%C3%BC%5Cx%24".to_owned(),
        "p%40ss+%27word%27%2f%22%c3%bc%5cx%24".to_owned(),
        "p%40ss%20'word'%2F%22%C3%BC%5Cx%24".to_owned(),
        dsimg_plan::digest::hex(SECRET.as_bytes()),
        dsimg_plan::digest::hex(SECRET.as_bytes()).to_uppercase(),
    ];
    for form in forms {
        let text = format!("a <{form}> b");
        assert_eq!(masker.mask_text(&text), "a <***> b", "{form}");
    }
    // Nobody encodes letters that need not be; what is not known as a form stays, and shows that the rest is at work.
    assert_eq!(masker.mask_text(&percent), percent);
}

#[test]
fn base64_is_covered_wherever_the_secret_stands_in_it() {
    let secret = "correct horse battery";
    let masker = masker(&[secret]);
    for before in 0..7 {
        for after in 0..4 {
            let text = format!("{}{secret}{}", "A".repeat(before), "Z".repeat(after));
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                let shown = masker.mask_text(&encoded);
                assert!(shown.contains("***"), "{encoded} became {shown}");
                // At most a digit at each end is left, and what stands around the secret.
                assert!(shown.len() <= "***".len() + (before + after) * 4 / 3 + 8, "{encoded} became {shown}");
            }
        }
    }
}

#[test]
fn long_secrets_are_covered_line_by_line() {
    let line = |seed: u32| -> String {
        (0..64).map(|n| char::from(b'a' + u8::try_from((n * 7 + seed) % 26).unwrap())).collect()
    };
    let key = format!("-----BEGIN KEY-----\n{}\n{}\nshort\n-----END KEY-----\n", line(1), line(2));
    let masker = masker(&[&key]);
    assert_eq!(masker.mask_text(&format!("> {}\r\n", line(2))), "> ***\r\n");
    assert_eq!(masker.mask_text("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
    let encoded = STANDARD.encode(&key);
    let broken: Vec<&str> = encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let shown = masker.mask_text(&broken.join("\n"));
    assert!(shown.lines().take(broken.len() - 1).all(|line| line == "***"), "{shown}");
}

#[test]
fn overlaps_are_covered_as_one() {
    let masker = masker(&["abcab", "cabbage", "abca"]);
    assert_eq!(masker.mask_text("-abcabcab-abcabbage-"), "-***-***-");
}

#[test]
fn nothing_is_held_back_that_can_be_no_secret() {
    let mut stream = masker(&["secret"]).stream();
    assert_eq!(stream.push(b"Continue? "), b"Continue? ");
    assert_eq!(stream.push(b"[y/n] "), b"[y/n] ");
    assert_eq!(stream.push(b" se"), b" ");
    assert_eq!(stream.push(b"rver"), b"server");
    assert_eq!(stream.push(b"secre"), b"");
    assert_eq!(stream.finish(), b"secre");
    assert_eq!(stream.push(b"t"), b"t");
}

#[test]
fn short_and_missing_secrets_cover_nothing() {
    let masker = masker(&["", "abc"]);
    assert_eq!(masker.mask_text("abc abc"), "abc abc");
    let mut stream = masker.stream();
    assert_eq!(stream.push(b"abc"), b"abc");
    assert_eq!(format!("{:?}", Masker::new(["hunter22"])).matches("hunter22").count(), 0);
}

/// However a stream is cut into pieces, it comes out as the whole text does.
#[test]
fn pieces_make_no_difference() {
    let masker = masker(&["abab", "babbab", "secret", "se-se-cret", SECRET]);
    let words = ["abab", "ab", "a", "b", "babbab", "babb", "secret", "secre", "se-", "cret", "t", " ", "\n", SECRET];
    let mut random = Random(1);
    for round in 0..5_000 {
        let text: String = (0..random.below(12)).map(|_| words[random.below(words.len())]).collect();
        let expected = masker.mask(text.as_bytes());
        let (mut stream, mut shown, mut rest) = (masker.stream(), Vec::new(), text.as_bytes());
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(1 + random.below(rest.len().min(6)));
            shown.extend(stream.push(piece));
            rest = next;
        }
        shown.extend(stream.finish());
        assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&expected), "round {round}: {text:?}");
    }
}
