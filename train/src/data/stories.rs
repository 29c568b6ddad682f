//! A text that the program writes itself, so that training runs on a machine without any data: little stories by a
//! grammar.
//!
//! There is something to learn at every distance: spelling, agreement of articles, pronouns and plurals, who holds
//! what in which colour, and sums of small numbers.

use crate::rng::Rng;

/// Purpose of the random numbers.
const PURPOSE: u64 = 0x7374_6f72_7900;

/// Stories that together have at least so many bytes, all of them ASCII; a longer text begins with the shorter one.
pub fn stories(seed: u64, bytes: usize) -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        if number > 0 {
            text.push('\n');
        }
        Story::new(Rng::new(seed, PURPOSE, number, 0)).tell(&mut text);
    }
    text
}

const WOMEN: [&str; 8] = ["Anna", "Clara", "Emma", "Ida", "Lucy", "Mary", "Nora", "Rose"];
const MEN: [&str; 8] = ["Adam", "Ben", "Frank", "Henry", "Jack", "Oscar", "Tom", "Victor"];
const PLACES: [&str; 10] =
    ["market", "forest", "river", "garden", "school", "harbour", "mill", "castle", "bakery", "orchard"];
const ANIMALS: [&str; 8] = ["dog", "cat", "owl", "horse", "goat", "duck", "ape", "fox"];
const THINGS: [&str; 10] =
    ["hat", "lamp", "umbrella", "book", "basket", "kite", "axe", "drum", "coat", "instrument"];
const COLOURS: [&str; 8] = ["red", "blue", "green", "yellow", "white", "black", "orange", "golden"];
const FRUITS: [&str; 7] = ["apple", "pear", "plum", "egg", "nut", "orange", "melon"];
const TIMES: [&str; 6] =
    ["One morning", "One evening", "On Sunday", "In winter", "Early in the spring", "Late at night"];
const WEATHER: [[&str; 2]; 4] = [
    ["It began to rain", "wet"],
    ["It began to snow", "cold"],
    ["The sun came out", "warm"],
    ["A strong wind blew", "tired"],
];
const NUMBERS: [&str; 13] =
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// Somebody.
#[derive(Clone, Copy)]
struct Person {
    name: &'static str,
    /// he, him, his
    pronouns: [&'static str; 3],
}

struct Story {
    rng: Rng,
    hero: Person,
    friend: Person,
    animal: &'static str,
    thing: &'static str,
    colour: &'static str,
    place: &'static str,
}

impl Story {
    fn new(mut rng: Rng) -> Self {
        let hero = person(&mut rng);
        let mut friend = person(&mut rng);
        while friend.name == hero.name {
            friend = person(&mut rng);
        }
        let animal = pick(&mut rng, &ANIMALS);
        let thing = pick(&mut rng, &THINGS);
        let colour = pick(&mut rng, &COLOURS);
        let place = pick(&mut rng, &PLACES);
        Story { rng, hero, friend, animal, thing, colour, place }
    }

    fn tell(&mut self, text: &mut String) {
        let Person { name, pronouns: [he, _, his] } = self.hero;
        let (time, animal, place) = (self.pick(&TIMES), self.animal, self.place);
        let what = format!("{} {}", self.colour, self.thing);
        let opening = match self.rng.below(3) {
            0 => format!(
                "{time} {name} went to the {place} with {his} {animal}. {} had {} with {}. ",
                capital(he),
                a(&what),
                self.hero.pronouns[1]
            ),
            1 => format!("{name} had {} and {}. {time} {he} took them to the {place}. ", a(&what), a(animal)),
            _ => format!("{time} {name} lost {his} {what} near the {place}. The {animal} had taken it. "),
        };
        text.push_str(&opening);
        let mut kinds = [0, 1, 2, 3, 4, 5];
        self.rng.shuffle(&mut kinds);
        for kind in &kinds[..2 + self.rng.below(4)] {
            let event = self.event(*kind);
            text.push_str(&event);
        }
        let friend = self.friend.name;
        let ending = match self.rng.below(3) {
            0 => format!("So {name} and {friend} went home, and {name} kept the {what}.\n"),
            1 => format!("In the end {name} gave the {what} to {friend}, and {friend} was glad.\n"),
            _ => format!("That night the {animal} slept beside the {what}, and {name} was glad.\n"),
        };
        text.push_str(&ending);
    }

    fn event(&mut self, kind: usize) -> String {
        let Person { name, pronouns: [he, him, his] } = self.hero;
        let friend = self.friend.name;
        let (thing, colour, animal, place) = (self.thing, self.colour, self.animal, self.place);
        match kind {
            0 => format!(
                "\"Where is my {thing}?\" asked {name}. \"The {colour} {thing} is at the {place},\" said {friend}. "
            ),
            1 => {
                let (fruit, first) = (self.pick(&FRUITS), 1 + self.rng.below(6));
                let second = 1 + self.rng.below(6);
                format!(
                    "{name} had {}, and {friend} gave {him} {} more. Now {he} had {}. ",
                    count(first, fruit),
                    NUMBERS[second],
                    count(first + second, fruit)
                )
            }
            2 => {
                let [weather, feeling] = self.pick(&WEATHER);
                format!("{weather}, and soon {name} and the {animal} were {feeling}. ")
            }
            3 => {
                let other = self.pick(&COLOURS);
                let why = if other == colour { "just like it" } else { "but not like it" };
                format!(
                    "{friend} had {} too, {why}: {} was {colour}. ",
                    a(&format!("{other} {thing}")),
                    format_args!("{his} {thing}")
                )
            }
            4 => format!(
                "The {animal} ran to the {place}, and {name} ran after it. {} called: \"Come back, {animal}!\" ",
                capital(he)
            ),
            _ => {
                let (fruit, has) = (self.pick(&FRUITS), 2 + self.rng.below(7));
                let eaten = 1 + self.rng.below(has);
                format!(
                    "{friend} had {}. The {animal} ate {}, so {} had {} left. ",
                    count(has, fruit),
                    NUMBERS[eaten],
                    self.friend.pronouns[0],
                    NUMBERS[has - eaten].replace("no", "none")
                )
            }
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        pick(&mut self.rng, from)
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len())]
}

fn person(rng: &mut Rng) -> Person {
    match rng.below(2) {
        0 => Person { name: pick(rng, &WOMEN), pronouns: ["she", "her", "her"] },
        _ => Person { name: pick(rng, &MEN), pronouns: ["he", "him", "his"] },
    }
}

/// With its article.
fn a(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {what}")
}

/// So many of a thing.
fn count(n: usize, thing: &str) -> String {
    format!("{} {thing}{}", NUMBERS[n], if n == 1 { "" } else { "s" })
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_text_that_depends_on_the_seed() {
        let (long, short) = (stories(1, 50_000), stories(1, 1_000));
        assert!(long.len() >= 50_000 && long.len() < 52_000 && long.is_ascii());
        assert!(long.starts_with(&short) && long.ends_with(".\n"));
        assert_ne!(stories(2, 1_000)[..200], short[..200]);
        assert!(!long.contains("a apple") && !long.contains("an red") && !long.contains("one apples"));
        assert!(long.contains(" an ") && !long.contains("  "));
        assert!(long.lines().filter(|l| !l.is_empty()).all(|l| l.len() > 60 && l.len() < 1000));
        assert_eq!(stories(1, 0), "");
    }

    /// A run without data depends on every byte.
    #[test]
    fn the_bytes_are_those() {
        let hash = crate::store::hash::bytes(stories(1, 20_000).as_bytes());
        assert_eq!(format!("{hash:016x}"), "5ee3ddc08fd1d7b5");
    }
}
