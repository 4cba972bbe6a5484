//! "Did you mean": the nearest right word.

/// The candidate that a slip of the fingers would turn into `word`; `None` when nothing is near.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = normal(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&typed, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| {
            let length = typed.chars().count().max(candidate.chars().count());
            *distance <= (length / 3).max(1) && *distance < length
        })
        // Of two that are as near, the one that begins alike: few slip on the first letter.
        .min_by_key(|(distance, candidate)| (*distance, usize::MAX - common_prefix(&typed, candidate), *candidate))
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `packages`? ``, or the list of what there is.
pub(crate) fn suggestion(word: &str, candidates: &[&str], what: &str) -> Option<String> {
    let near = nearest(word, candidates.iter().copied()).or_else(|| only_one_with(word, candidates));
    if let Some(nearest) = near {
        return Some(format!("did you mean `{nearest}`?"));
    }
    (!candidates.is_empty()).then(|| format!("{what}: {}", listed(candidates)))
}

/// Of `share_with`, somebody remembers `share`.
fn only_one_with<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let typed = normal(word);
    let mut with = candidates.iter().filter(|candidate| normal(candidate).split('-').any(|part| part == typed));
    let first = with.next()?;
    with.next().is_none().then_some(*first)
}

/// `` `a`, `b`, `c` ``
pub(crate) fn listed<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

fn common_prefix(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count()
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace(['_', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let keys = ["packages", "requirements", "venv"];
        assert_eq!(nearest("pakages", keys), Some("packages"));
        assert_eq!(nearest("Venv", keys), Some("venv"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("gpus", ["cpus", "gpu"]), Some("gpu"));
    }

    #[test]
    fn a_part_of_a_name_is_enough_if_only_one_has_it() {
        let keys = ["share_with", "kms_key", "region_kms_keys", "tags", "ami_tags", "ami_name"];
        let suggestion = |word| suggestion(word, &keys, "known keys").unwrap();
        assert_eq!(suggestion("share"), "did you mean `share_with`?");
        assert_eq!(suggestion("Share"), "did you mean `share_with`?");
        assert!(suggestion("ami").starts_with("known keys: "), "two have it");
        assert!(suggestion("sha").starts_with("known keys: "));
    }
}
