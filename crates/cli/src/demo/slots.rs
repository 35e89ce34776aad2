//! The things a command can be about: rooms, days, times, tasks, and a small seeded dice to choose among them.

/// SplitMix64 (Steele, Lea, Flood 2014): the same seed gives the same data set on every machine.
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// A dice whose rolls are fixed by `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub(super) fn roll(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { usize::try_from(self.next() % n as u64).unwrap_or(0) }
    }

    /// True in one of `n` rolls.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }

    /// One of `choices`; the type's default when there is none.
    pub(super) fn pick<T: Copy + Default>(&mut self, choices: &[T]) -> T {
        let idx = self.roll(choices.len());
        choices.get(idx).copied().unwrap_or_default()
    }

    /// Shuffles in place (Fisher and Yates, from the back).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.roll(last + 1));
        }
    }
}

pub(super) const ROOMS: &[&str] = &[
    "kitchen",
    "bedroom",
    "bathroom",
    "living room",
    "office",
    "hallway",
    "garage",
    "guest room",
    "nursery",
    "dining room",
    "basement",
    "attic",
];

pub(super) const DOORS: &[&str] = &["front", "back", "garage", "cellar", "garden", "side"];

pub(super) const DAYS: &[&str] =
    &["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "today", "tomorrow"];

pub(super) const GENRES: &[&str] =
    &["jazz", "rock", "classical", "folk", "blues", "reggae", "techno", "soul", "country", "hip hop"];

pub(super) const DEVICES: &[&str] = &[
    "dishwasher",
    "washing machine",
    "dryer",
    "coffee maker",
    "oven",
    "robot vacuum",
    "air purifier",
    "sprinkler",
    "heater",
    "rice cooker",
];

pub(super) const EVENTS: &[&str] = &[
    "dentist",
    "haircut",
    "team meeting",
    "piano lesson",
    "yoga class",
    "lunch with maria",
    "job interview",
    "book club",
    "car service",
    "football practice",
    "parents evening",
    "dinner with tom",
    "eye test",
    "choir",
    "budget review",
];

pub(super) const ITEMS: &[&str] = &[
    "milk",
    "eggs",
    "rye bread",
    "oat milk",
    "tomatoes",
    "coffee",
    "rice",
    "olive oil",
    "bananas",
    "dish soap",
    "batteries",
    "cheese",
    "paper towels",
    "green tea",
    "onions",
    "butter",
    "apples",
    "cat food",
];

pub(super) const TASKS: &[&str] = &[
    "water the plants",
    "call the bank",
    "pay the rent",
    "feed the cat",
    "take out the trash",
    "buy flowers",
    "renew the passport",
    "charge the car",
    "book a table",
    "send the invoice",
    "clean the filter",
    "return the books",
    "pick up the parcel",
    "back up the laptop",
];

/// A length of time as people say it.
#[derive(Clone, Copy, Default)]
pub(super) struct Duration {
    pub(super) spoken: &'static str,
    pub(super) n_minutes: u32,
}

/// Lengths with a name of their own; all others are said as a number of minutes.
pub(super) const NAMED_DURATIONS: &[Duration] =
    &[Duration { spoken: "half an hour", n_minutes: 30 }, Duration { spoken: "an hour", n_minutes: 60 }];

/// A share as people say it.
#[derive(Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) spoken: &'static str,
    pub(super) percent: u32,
}

/// Shares with a name of their own; all others are said in percent.
pub(super) const NAMED_SHARES: &[Share] = &[
    Share { spoken: "half", percent: 50 },
    Share { spoken: "a quarter", percent: 25 },
    Share { spoken: "full", percent: 100 },
];

/// A time of day: how it is said, and the 24-hour form that the action carries.
pub(super) struct TimeOfDay {
    pub(super) spoken: String,
    pub(super) clock: String,
}

/// Hours at which things happen, on the 24-hour clock.
const HOURS: &[u32] = &[6, 7, 8, 9, 10, 12, 14, 15, 17, 18, 19, 20];

/// A full or half hour of the day, said in one of several ways.
pub(super) fn time_of_day(dice: &mut Dice) -> TimeOfDay {
    let hour = dice.pick(HOURS);
    let is_half = dice.one_in(3);
    let clock = format!("{hour:02}:{}", if is_half { "30" } else { "00" });
    let (spoken_hour, half_day) = match hour {
        0..=11 => (hour, "am"),
        12 => (12, "pm"),
        _ => (hour - 12, "pm"),
    };
    let spoken = match (is_half, dice.roll(3)) {
        (true, 0) => clock.clone(),
        (true, _) => format!("{spoken_hour}:30 {half_day}"),
        (false, 0) => clock.clone(),
        (false, _) => format!("{spoken_hour} {half_day}"),
    };
    TimeOfDay { spoken, clock }
}
