//! Spoken commands for a home and a calendar, each with the JSON action that it means.
//!
//! Every kind of command is one function: it draws the slots, draws a phrasing and fills it in. All phrasings were
//! written for this project. Orders ("turn off …") may be wrapped in politeness; remarks ("it is too dark …") stand
//! as they are. The answer is compact JSON with `action` first, so that "the right answer" is one exact string.

use serde_json::{Value, json};

use super::slots::{
    DAYS, DEVICES, DOORS, Dice, EVENTS, GENRES, ITEMS, NAMED_DURATIONS, NAMED_SHARES, ROOMS, TASKS,
    time_of_day,
};

/// What is said and the action it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// The user's words.
    pub(crate) prompt: String,
    /// The words without politeness, capital and full stop: what "the same phrase" means for the split.
    pub(super) phrase: String,
    /// The action as compact JSON.
    pub(crate) answer: String,
}

/// A kind of command: draws one of its rows.
pub(super) type Kind = fn(&mut Dice) -> Spoken;

/// All kinds of command.
pub(super) const KINDS: &[Kind] = &[
    set_light,
    dim_light,
    set_temperature,
    set_blinds,
    set_lock,
    set_fan,
    run_device,
    play_music,
    set_volume,
    set_timer,
    set_alarm,
    add_event,
    cancel_event,
    show_calendar,
    remind,
    add_item,
    remove_item,
    find_phone,
];

fn set_light(dice: &mut Dice) -> Spoken {
    let room = dice.pick(ROOMS);
    let is_on = dice.one_in(2);
    let state = if is_on { "on" } else { "off" };
    let orders = [
        "turn {state} the {room} light",
        "turn the {room} lights {state}",
        "switch {state} the lamp in the {room}",
        "switch the {room} light {state}",
        "put the {room} lights {state}",
    ];
    let remarks: &[&str] = if is_on {
        &["it is too dark in the {room}", "i need light in the {room}", "lights on in the {room}"]
    } else {
        &["nobody needs light in the {room}", "someone left the {room} light on", "lights off in the {room}"]
    };
    let words = phrase(dice, &orders, remarks, &[("room", room), ("state", state)]);
    spoken(dice, words, json!({"action": "set_light", "room": room, "state": state}))
}

fn dim_light(dice: &mut Dice) -> Spoken {
    let room = dice.pick(ROOMS);
    let (share, percent) = share(dice);
    let orders = [
        "dim the {room} light to {share}",
        "set the {room} light to {share}",
        "bring the {room} lamp to {share} brightness",
        "set the brightness in the {room} to {share}",
    ];
    let remarks = ["i want the {room} light at {share}", "{room} light at {share}"];
    let words = phrase(dice, &orders, &remarks, &[("room", room), ("share", &share)]);
    spoken(dice, words, json!({"action": "dim_light", "room": room, "percent": percent}))
}

fn set_temperature(dice: &mut Dice) -> Spoken {
    let room = dice.pick(ROOMS);
    let degrees = 15 + dice.roll(12);
    let orders = [
        "set the {room} to {degrees} degrees",
        "heat the {room} to {degrees} degrees",
        "set the thermostat in the {room} to {degrees}",
        "keep the {room} at {degrees} degrees",
    ];
    let remarks = ["i want {degrees} degrees in the {room}", "the {room} should be {degrees} degrees"];
    let words = phrase(dice, &orders, &remarks, &[("room", room), ("degrees", &degrees.to_string())]);
    spoken(dice, words, json!({"action": "set_temperature", "room": room, "degrees": degrees}))
}

fn set_blinds(dice: &mut Dice) -> Spoken {
    let room = dice.pick(ROOMS);
    let is_open = dice.one_in(2);
    let (orders, remarks, state): (&[&str], &[&str], &str) = if is_open {
        (
            &["open the blinds in the {room}", "pull up the {room} blinds", "raise the {room} blinds"],
            &["let some sun into the {room}", "blinds up in the {room}"],
            "open",
        )
    } else {
        (
            &["close the blinds in the {room}", "shut the {room} blinds", "lower the {room} blinds"],
            &["the sun is too bright in the {room}", "blinds down in the {room}"],
            "closed",
        )
    };
    let words = phrase(dice, orders, remarks, &[("room", room)]);
    spoken(dice, words, json!({"action": "set_blinds", "room": room, "state": state}))
}

fn set_lock(dice: &mut Dice) -> Spoken {
    let door = dice.pick(DOORS);
    let is_locked = dice.one_in(2);
    let (orders, remarks, state): (&[&str], &[&str], &str) = if is_locked {
        (
            &["lock the {door} door", "bolt the {door} door", "make sure the {door} door is locked"],
            &["i forgot to lock the {door} door", "the {door} door must not stay open"],
            "locked",
        )
    } else {
        (
            &[
                "unlock the {door} door",
                "take the lock off the {door} door",
                "leave the {door} door unlocked",
            ],
            &["someone is waiting at the {door} door, let them in", "i can not get in by the {door} door"],
            "unlocked",
        )
    };
    let words = phrase(dice, orders, remarks, &[("door", door)]);
    spoken(dice, words, json!({"action": "set_lock", "door": door, "state": state}))
}

fn set_fan(dice: &mut Dice) -> Spoken {
    let room = dice.pick(ROOMS);
    let speed = dice.pick(&["low", "medium", "high", "off"]);
    let orders = [
        "set the {room} fan to {speed}",
        "turn the fan in the {room} to {speed}",
        "put the {room} fan on {speed}",
    ];
    let remarks = ["i want the {room} fan on {speed}", "{room} fan to {speed}"];
    let words = phrase(dice, &orders, &remarks, &[("room", room), ("speed", speed)]);
    spoken(dice, words, json!({"action": "set_fan", "room": room, "speed": speed}))
}

fn run_device(dice: &mut Dice) -> Spoken {
    let device = dice.pick(DEVICES);
    let (orders, action): (&[&str], &str) = if dice.one_in(2) {
        (
            &["start the {device}", "get the {device} going", "run the {device}", "fire up the {device}"],
            "start_device",
        )
    } else {
        (
            &[
                "stop the {device}",
                "shut down the {device}",
                "cut the power to the {device}",
                "halt the {device}",
            ],
            "stop_device",
        )
    };
    let words = phrase(dice, orders, &[], &[("device", device)]);
    spoken(dice, words, json!({"action": action, "device": device}))
}

fn play_music(dice: &mut Dice) -> Spoken {
    let (genre, room) = (dice.pick(GENRES), dice.pick(ROOMS));
    let orders = [
        "play some {genre} in the {room}",
        "put on {genre} music in the {room}",
        "start a {genre} playlist in the {room}",
        "play {genre} on the {room} speaker",
    ];
    let remarks = ["i feel like {genre} in the {room}", "some {genre} would be nice in the {room}"];
    let words = phrase(dice, &orders, &remarks, &[("genre", genre), ("room", room)]);
    spoken(dice, words, json!({"action": "play_music", "genre": genre, "room": room}))
}

fn set_volume(dice: &mut Dice) -> Spoken {
    let room = dice.pick(ROOMS);
    let (share, percent) = share(dice);
    let orders = [
        "set the volume in the {room} to {share}",
        "turn the {room} speaker to {share} volume",
        "change the {room} volume to {share}",
    ];
    let remarks = ["i want the {room} speaker at {share} volume", "{room} volume at {share}"];
    let words = phrase(dice, &orders, &remarks, &[("room", room), ("share", &share)]);
    spoken(dice, words, json!({"action": "set_volume", "room": room, "percent": percent}))
}

fn set_timer(dice: &mut Dice) -> Spoken {
    let (length, n_minutes) = if dice.one_in(3) {
        let named = dice.pick(NAMED_DURATIONS);
        (named.spoken.to_owned(), named.n_minutes)
    } else {
        let n_minutes = 2 + u32::try_from(dice.roll(58)).unwrap_or(0);
        (format!("{n_minutes} minutes"), n_minutes)
    };
    let orders = [
        "set a timer for {length}",
        "start a timer of {length}",
        "count down {length}",
        "let me know when {length} have passed",
        "put {length} on the clock",
    ];
    let remarks = ["i need a timer for {length}", "timer for {length}"];
    let words = phrase(dice, &orders, &remarks, &[("length", &length)]);
    spoken(dice, words, json!({"action": "set_timer", "minutes": n_minutes}))
}

fn set_alarm(dice: &mut Dice) -> Spoken {
    let day = dice.pick(DAYS);
    let time = time_of_day(dice);
    let orders = [
        "wake me {day} at {time}",
        "set an alarm for {day} at {time}",
        "wake me up at {time} {day}",
        "set my alarm clock to {time} {day}",
    ];
    let remarks = ["i have to get up at {time} {day}", "alarm {day} at {time}"];
    let words = phrase(dice, &orders, &remarks, &[("day", &on_day(day)), ("time", &time.spoken)]);
    spoken(dice, words, json!({"action": "set_alarm", "day": day, "time": time.clock}))
}

fn add_event(dice: &mut Dice) -> Spoken {
    let (title, day) = (dice.pick(EVENTS), dice.pick(DAYS));
    let time = time_of_day(dice);
    let orders = [
        "add {title} to my calendar {day} at {time}",
        "put {title} in the calendar for {time} {day}",
        "schedule {title} {day} at {time}",
        "plan {title} at {time} {day}",
    ];
    let remarks = ["i have {title} {day} at {time}", "{title} is {day} at {time}, note it down"];
    let words =
        phrase(dice, &orders, &remarks, &[("title", title), ("day", &on_day(day)), ("time", &time.spoken)]);
    spoken(dice, words, json!({"action": "add_event", "title": title, "day": day, "time": time.clock}))
}

fn cancel_event(dice: &mut Dice) -> Spoken {
    let (title, day) = (dice.pick(EVENTS), dice.pick(DAYS));
    let orders = [
        "cancel {title} {day}",
        "take {title} {day} off my calendar",
        "remove {title} {day} from the calendar",
        "call off {title} {day}",
    ];
    let remarks = ["i can not make it to {title} {day}", "there will be no {title} {day}"];
    let words = phrase(dice, &orders, &remarks, &[("title", title), ("day", &on_day(day))]);
    spoken(dice, words, json!({"action": "cancel_event", "title": title, "day": day}))
}

fn show_calendar(dice: &mut Dice) -> Spoken {
    let day = dice.pick(DAYS);
    let orders = [
        "show my calendar {day}",
        "read me my plans {day}",
        "tell me what is on {day}",
        "list my appointments {day}",
    ];
    let remarks = [
        "what do i have {day}",
        "am i free {day}",
        "what is planned {day}",
        "is anything on my calendar {day}",
        "how busy am i {day}",
    ];
    let words = phrase(dice, &orders, &remarks, &[("day", &on_day(day))]);
    spoken(dice, words, json!({"action": "show_calendar", "day": day}))
}

fn remind(dice: &mut Dice) -> Spoken {
    let (task, day) = (dice.pick(TASKS), dice.pick(DAYS));
    let orders = [
        "remind me to {task} {day}",
        "make a note that i must {task} {day}",
        "tell me to {task} {day}",
        "do not let me forget to {task} {day}",
    ];
    let remarks = ["i must {task} {day}", "i need to {task} {day}, remind me"];
    let words = phrase(dice, &orders, &remarks, &[("task", task), ("day", &on_day(day))]);
    spoken(dice, words, json!({"action": "remind", "task": task, "day": day}))
}

fn add_item(dice: &mut Dice) -> Spoken {
    let item = dice.pick(ITEMS);
    let orders = [
        "add {item} to the shopping list",
        "put {item} on the list",
        "write {item} on my shopping list",
        "note that we need {item}",
    ];
    let remarks = ["we are out of {item}", "there is no {item} left", "we need more {item}"];
    let words = phrase(dice, &orders, &remarks, &[("item", item)]);
    spoken(dice, words, json!({"action": "add_item", "item": item}))
}

fn remove_item(dice: &mut Dice) -> Spoken {
    let item = dice.pick(ITEMS);
    let orders = [
        "remove {item} from the shopping list",
        "take {item} off the list",
        "cross {item} off my shopping list",
        "delete {item} from the list",
    ];
    let remarks = ["i already bought {item}", "we do not need {item} any more", "no need for {item} now"];
    let words = phrase(dice, &orders, &remarks, &[("item", item)]);
    spoken(dice, words, json!({"action": "remove_item", "item": item}))
}

fn find_phone(dice: &mut Dice) -> Spoken {
    let owner = dice.pick(&["my", "anna's", "tom's", "maria's", "dad's", "mum's", "grandma's", "leo's"]);
    let orders =
        ["find {owner} phone", "ring {owner} phone", "make {owner} phone ring", "locate {owner} phone"];
    let remarks = ["where is {owner} phone", "i can not find {owner} phone", "{owner} phone is lost"];
    let words = phrase(dice, &orders, &remarks, &[("owner", owner)]);
    let who = owner.strip_suffix("'s").unwrap_or("me");
    spoken(dice, words, json!({"action": "find_phone", "owner": who}))
}

/// "on friday", but "today" and "tomorrow" as they are.
fn on_day(day: &str) -> String {
    match day {
        "today" | "tomorrow" => day.to_owned(),
        _ => format!("on {day}"),
    }
}

/// A share as it is said, and its number of percent.
fn share(dice: &mut Dice) -> (String, u32) {
    if dice.one_in(5) {
        let named = dice.pick(NAMED_SHARES);
        return (named.spoken.to_owned(), named.percent);
    }
    let percent = 5 * (1 + u32::try_from(dice.roll(19)).unwrap_or(0));
    (format!("{percent} percent"), percent)
}

/// One phrasing with its slots filled.
struct Phrase {
    words: String,
    /// Orders take politeness, remarks do not.
    is_order: bool,
}

/// Draws one of the phrasings and fills its `{slots}`.
fn phrase(dice: &mut Dice, orders: &[&str], remarks: &[&str], slots: &[(&str, &str)]) -> Phrase {
    let idx = dice.roll(orders.len() + remarks.len());
    let template = orders.iter().chain(remarks).nth(idx).copied().unwrap_or_default();
    let fill = |text: String, (name, value): &(&str, &str)| text.replace(&format!("{{{name}}}"), value);
    Phrase { words: slots.iter().fold(template.to_owned(), fill), is_order: idx < orders.len() }
}

/// The command as somebody says it: at times polite, at times with a capital and a full stop.
fn spoken(dice: &mut Dice, phrase: Phrase, answer: Value) -> Spoken {
    let Phrase { words, is_order } = phrase;
    let mut prompt = match if is_order { dice.roll(8) } else { usize::MAX } {
        0 => format!("please {words}"),
        1 => format!("could you {words}"),
        2 => format!("can you {words} please"),
        3 => format!("{words} please"),
        4 => format!("{words} for me"),
        _ => words.clone(),
    };
    if dice.one_in(3) {
        prompt = format!("{}.", capitalised(&prompt));
    }
    Spoken { prompt, phrase: words, answer: answer.to_string() }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
