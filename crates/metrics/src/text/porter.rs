//! Porter's stemmer with the changes that NLTK made, which is what rouge_score stems with.
//!
//! The algorithm: M. F. Porter, An algorithm for suffix stripping, Program 14 (1980). A word is seen as
//! \[C](VC)^m\[V], runs of consonants and vowels, and loses suffixes in eight steps, most of them only if m of what remains is
//! large enough. The stemmers on crates.io are Snowball's, which treat many words otherwise. NLTK's changes: a list of
//! irregular words, "ies" and "ied" in words of four letters, y to i only after a consonant, "alli" before the other rules of
//! step 2, "fulli", "logi", and vowel-consonant as the end of a short word.

/// Words that are not stemmed by rule.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// A suffix and what replaces it; the first that fits decides.
type SuffixRule = (&'static str, &'static str);

const STEP_2: [SuffixRule; 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [SuffixRule; 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
];

/// The stem of a word in lower-case ASCII letters and digits; digits count as consonants.
pub(crate) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let word = step_1a(word);
    let word = step_1b(word);
    let word = step_1c(word);
    let word = step_2(word);
    let word = step_3(word);
    let word = step_4(word);
    step_5(word)
}

/// Plurals.
fn step_1a(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies") {
        return if word.len() == 4 { format!("{stem}ie") } else { format!("{stem}i") };
    }
    if let Some(stem) = word.strip_suffix("sses") {
        return format!("{stem}ss");
    }
    match word.strip_suffix('s') {
        Some(stem) if !word.ends_with("ss") => stem.to_owned(),
        _ => word.to_owned(),
    }
}

/// Past tenses and "ing".
fn step_1b(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return if word.len() == 4 { format!("{stem}ie") } else { format!("{stem}i") };
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if 0 < measure(stem) { format!("{stem}ee") } else { word };
    }
    let stripped =
        ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(|stem| has_vowel(stem)));
    let Some(stem) = stripped else { return word };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    if ends_double_consonant(stem) {
        // Of the two letters one goes, unless they are l, s or z.
        let shorter = stem.get(..stem.len() - 1).unwrap_or_default();
        return if stem.ends_with(['l', 's', 'z']) { stem.to_owned() } else { shorter.to_owned() };
    }
    if measure(stem) == 1 && ends_short(stem) { format!("{stem}e") } else { stem.to_owned() }
}

/// y to i after a consonant that is not the first letter.
fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if 1 < stem.len() && consonants(stem).last() == Some(&true) => format!("{stem}i"),
        _ => word,
    }
}

fn step_2(mut word: String) -> String {
    // "alli" loses its end and goes through the step again, until the end is another.
    while let Some(stem) = word.strip_suffix("alli").filter(|stem| 0 < measure(stem)) {
        word = format!("{stem}al");
    }
    match shortened(&word, &STEP_2) {
        Some(outcome) => outcome,
        None => match word.strip_suffix("logi") {
            // Here the l counts as part of what remains, so that "geologi" is long enough.
            Some(stem) if 0 < measure(&format!("{stem}l")) => format!("{stem}log"),
            _ => word,
        },
    }
}

fn step_3(word: String) -> String {
    shortened(&word, &STEP_3).unwrap_or(word)
}

fn step_4(word: String) -> String {
    for suffix in STEP_4 {
        if let Some(stem) = word.strip_suffix(suffix) {
            let may_go = 1 < measure(stem) && (suffix != "ion" || stem.ends_with(['s', 't']));
            return if may_go { stem.to_owned() } else { word };
        }
    }
    word
}

/// A last e, and one of two l.
fn step_5(word: String) -> String {
    let without_e = word.strip_suffix('e').filter(|stem| match measure(stem) {
        0 => false,
        1 => !ends_short(stem),
        _ => true,
    });
    let word = without_e.map(str::to_owned).unwrap_or(word);
    match word.strip_suffix('l') {
        Some(stem) if stem.ends_with('l') && 1 < measure(stem) => stem.to_owned(),
        _ => word,
    }
}

/// What the first rule whose suffix fits makes of the word, if what remains has a vowel and then a consonant; the word as it
/// is if not. `None` if no suffix fits.
fn shortened(word: &str, rules: &[SuffixRule]) -> Option<String> {
    rules.iter().find_map(|(suffix, replacement)| {
        let stem = word.strip_suffix(suffix)?;
        Some(if 0 < measure(stem) { format!("{stem}{replacement}") } else { word.to_owned() })
    })
}

/// For each letter whether it is a consonant; y is one unless it follows one.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for byte in word.bytes() {
        flags.push(match byte {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !flags.last().copied().unwrap_or(false),
            _ => true,
        });
    }
    flags
}

/// Porter's m: how often a vowel is followed by a consonant.
fn measure(word: &str) -> usize {
    consonants(word).windows(2).filter(|pair| matches!(pair, [false, true])).count()
}

fn has_vowel(word: &str) -> bool {
    consonants(word).contains(&false)
}

fn ends_double_consonant(word: &str) -> bool {
    matches!(word.as_bytes(), [.., a, b] if a == b) && consonants(word).last() == Some(&true)
}

/// Whether a word ends as "hop" does, consonant, vowel, consonant other than w, x, y, or is as "up".
fn ends_short(word: &str) -> bool {
    match consonants(word)[..] {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn words_of_the_paper_are_stemmed_as_there() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("hopping", "hop"),
            ("filing", "file"),
            ("relational", "relat"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn stems_are_those_of_nltk() {
        for (word, expected) in crate::text::golden::<Vec<(String, String)>>("stems") {
            assert_eq!(stem(&word), expected, "{word}");
        }
    }
}
