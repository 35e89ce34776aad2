//! Two-word names for experiments that were given none.

use std::hash::{BuildHasher, RandomState};

const FIRST: &[&str] = &[
    "amber", "ancient", "bold", "brave", "bright", "brisk", "calm", "clever", "coral", "crisp", "curious",
    "deft", "eager", "early", "fabled", "fleet", "gentle", "gilded", "golden", "hidden", "honest", "humble",
    "ivory", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry", "mighty", "nimble", "noble",
    "patient", "placid", "polished", "proud", "quick", "quiet", "radiant", "rapid", "rustic", "scarlet",
    "serene", "sharp", "silent", "silver", "sincere", "smooth", "solid", "steady", "sturdy", "subtle",
    "sunny", "swift", "tidy", "tranquil", "velvet", "vivid", "warm", "wise", "witty", "young", "zesty",
];

const SECOND: &[&str] = &[
    "acorn", "alder", "anvil", "badger", "bamboo", "beacon", "birch", "bison", "brook", "cedar", "cello",
    "comet", "condor", "crane", "delta", "dolphin", "eagle", "ember", "falcon", "fern", "finch", "fjord",
    "forge", "gecko", "glacier", "harbor", "harp", "hawk", "heron", "ibex", "iris", "jasper", "juniper",
    "kestrel", "lagoon", "lantern", "lark", "linden", "lynx", "maple", "marmot", "meadow", "nectar", "oak",
    "orchid", "osprey", "otter", "pebble", "pine", "plover", "quartz", "raven", "reef", "robin", "sable",
    "sparrow", "spruce", "stork", "tern", "thistle", "tundra", "walnut", "willow", "wren",
];

/// A name such as `quiet-otter`, different from call to call.
pub(crate) fn generate() -> String {
    // The standard library seeds its hash maps from the system's random source; that is enough for a name.
    let random = RandomState::new().hash_one(0_u8);
    let pick = |words: &[&'static str], bits: u64| words.get((bits % words.len() as u64) as usize).copied();
    let (first, second) = (pick(FIRST, random), pick(SECOND, random >> 32));
    format!("{}-{}", first.unwrap_or("new"), second.unwrap_or("experiment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_lower_case_words() {
        for _ in 0..50 {
            let name = generate();
            let words: Vec<&str> = name.split('-').collect();
            assert_eq!(words.len(), 2, "{name}");
            assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())), "{name}");
        }
    }
}
