//! The buffer against plain lists, over random schedules of adds, wraps, evictions, dropped writers and draws.

use std::collections::{BTreeMap, BTreeSet};

use hotlanes_replay::{
    Buffer, Codec, Column, Config, Data, DataMut, Drawn, Dtype, Error, Eviction, Method, Of, Request,
    Returns, Schema, Sequences, Step, Target, Unit, Writer,
};
use proptest::prelude::*;

const GAMMA: f32 = 0.5;
/// Frames of a stack, and values of one.
const FRAMES: usize = 3;

#[derive(Clone, Debug)]
struct Record {
    id: u64,
    /// Writer, stream, time: never the same twice.
    obs: [i32; 3],
    reward: f32,
    stack: Vec<u8>,
    step: Step,
}

/// All that was added, and by a simple ring which of it is there.
struct Lists {
    /// A stream's records, from the moment on that a writer began it.
    streams: Vec<Vec<Record>>,
    /// Each segment's ordinal, whether it is open, and its records' ids.
    segments: Vec<(u64, bool, Vec<u64>)>,
    next: u64,
    /// Records in the order in which they were added.
    order: Vec<u64>,
}

/// What must be drawn together with a record.
#[derive(Debug, PartialEq)]
struct Wanted {
    steps: u32,
    value: f32,
    discount: f32,
    next: Option<[i32; 3]>,
    run: Vec<[i32; 3]>,
}

impl Lists {
    /// A stream's records from one on, as long as they are of one episode: the steps, and the observation after each.
    fn episode(&self, id: u64) -> (&[Record], Option<&Record>) {
        let (stream, at) = self.place(id);
        let stream = &self.streams[stream];
        let last =
            (at..stream.len()).find(|&i| stream[i].step != Step::Continues).unwrap_or(stream.len() - 1);
        let after = stream.get(last + 1).filter(|record| record.step == Step::Final);
        (&stream[at..=last], after)
    }

    fn place(&self, id: u64) -> (usize, usize) {
        let found = |(s, stream): (usize, &Vec<Record>)| {
            stream.iter().position(|record| record.id == id).map(|at| (s, at))
        };
        self.streams.iter().enumerate().find_map(found).unwrap_or_else(|| panic!("id {id} was never added"))
    }

    fn record(&self, id: u64) -> &Record {
        let (stream, at) = self.place(id);
        &self.streams[stream][at]
    }

    fn wanted(&self, id: u64, unit: Unit) -> Option<Wanted> {
        if self.record(id).step == Step::Final {
            return None;
        }
        let (steps, after) = self.episode(id);
        let mut wanted = Wanted { steps: 1, value: 0.0, discount: 0.0, next: None, run: vec![] };
        match unit {
            Unit::Record => {}
            Unit::Sequences(Sequences { len, pad }) => {
                wanted.run = steps.iter().take(len).map(|record| record.obs).collect();
                wanted.steps = wanted.run.len() as u32;
                if !pad && wanted.run.len() < len {
                    return None;
                }
            }
            Unit::Returns(Returns { n, .. }) => {
                // The last step's outcome is known where it terminated, or the observation after it was added.
                let terminated = steps[steps.len() - 1].step == Step::Terminated;
                let known = if terminated || after.is_some() { steps.len() } else { steps.len() - 1 };
                let m = known.min(n);
                if m == 0 {
                    return None;
                }
                wanted.steps = m as u32;
                wanted.value = (0..m).map(|i| GAMMA.powi(i as i32) * steps[i].reward).sum();
                if m < steps.len() || !terminated {
                    wanted.discount = GAMMA.powi(m as i32);
                    wanted.next = steps.get(m).or(after).map(|record| record.obs);
                    assert!(wanted.next.is_some());
                }
            }
        }
        Some(wanted)
    }
}

struct Run {
    buffer: Buffer,
    writers: Vec<Option<Writing>>,
    lists: Lists,
    rows: usize,
    places: u64,
    strict: bool,
    exact: bool,
    time: i32,
    priorities: BTreeMap<u64, f32>,
}

struct Writing {
    writer: Writer,
    /// Its streams' places in the lists.
    streams: Vec<usize>,
    segment: Option<usize>,
}

fn schema(exact: bool) -> Schema {
    // With less than the most that is needed, segments are sealed before they have all their records.
    let stack =
        Column::new("stack", Dtype::U8, &[FRAMES, 2]).codec(Codec::Frames).budget(if exact { 7 } else { 4 });
    Schema::new(vec![Column::new("obs", Dtype::I32, &[3]), Column::new("reward", Dtype::F32, &[]), stack])
        .unwrap()
}

impl Run {
    fn new(capacity: usize, segments: usize, strict: bool, exact: bool) -> Run {
        let eviction = if strict { Eviction::Record } else { Eviction::Segment };
        let config = Config { segments, eviction, priorities: Some(1.0), seed: 5, ..Config::new(capacity) };
        let rows = capacity.div_ceil(segments);
        Run {
            buffer: Buffer::new(schema(exact), config).unwrap(),
            writers: vec![],
            lists: Lists { streams: vec![], segments: vec![], next: 0, order: vec![] },
            rows,
            places: (capacity.div_ceil(rows) + usize::from(strict)) as u64,
            strict,
            exact,
            time: 0,
            priorities: BTreeMap::new(),
        }
    }

    fn open(&mut self, streams: usize) {
        let open = self.writers.iter().flatten().count();
        if self.strict && open > 0 || open as u64 + 1 >= self.places || streams > self.rows {
            return;
        }
        // One that was dropped leaves its segment to a writer with as many streams.
        let Ok(writer) = self.buffer.writer(streams) else { return };
        let first = self.lists.streams.len();
        self.lists.streams.resize(first + streams, vec![]);
        let streams = (first..first + streams).collect();
        self.writers.push(Some(Writing { writer, streams, segment: None }));
        if self.exact && !self.strict {
            self.rotate(self.writers.len() - 1);
        }
    }

    fn add(&mut self, which: usize, rounds: usize, kinds: u64) {
        let live: Vec<_> = (0..self.writers.len()).filter(|&w| self.writers[w].is_some()).collect();
        if live.is_empty() {
            return;
        }
        let w = live[which % live.len()];
        let writing = self.writers[w].as_mut().unwrap();
        let count = writing.streams.len();
        let (mut obs, mut rewards, mut stacks, mut steps) = (vec![], vec![], vec![], vec![]);
        for i in 0..rounds * count {
            let stream = writing.streams[i % count];
            let last = self.lists.streams[stream].last();
            let coin = kinds.rotate_left(i as u32 * 5) % 32;
            let ended = matches!(last, Some(Record { step: Step::Terminated | Step::Truncated, .. }));
            let step = match coin {
                0..16 if ended => Step::Final,
                16..19 => Step::Terminated,
                19..22 => Step::Truncated,
                _ => Step::Continues,
            };
            self.time += 1;
            let mut stack = last.map_or(vec![0; 2 * FRAMES], |last| last.stack.clone());
            if !coin.is_multiple_of(4) {
                stack.rotate_left(2);
                stack[2 * FRAMES - 2..].fill(self.time as u8);
            }
            let record = Record {
                id: u64::MAX,
                obs: [w as i32, stream as i32, self.time],
                reward: (self.time % 8) as f32,
                stack: stack.clone(),
                step,
            };
            obs.extend(record.obs);
            rewards.push(record.reward);
            stacks.extend(stack);
            steps.push(step);
            self.lists.streams[stream].push(record);
        }
        let data = [Data::I32(&obs), Data::F32(&rewards), Data::U8(&stacks)];
        let first = writing.writer.add(rounds * count, &data, &steps).unwrap();
        let ids: Vec<_> = writing.writer.ids().collect();
        assert_eq!((first, ids.len()), (ids[0], rounds * count));
        for (i, &id) in ids.iter().enumerate() {
            let stream = &mut self.lists.streams[writing.streams[i % count]];
            let at = stream.len() - rounds + i / count;
            stream[at].id = id;
            self.lists.order.push(id);
            self.priorities.insert(id, 1.0);
        }
        if self.exact && !self.strict {
            self.turn(w, &ids);
        }
    }

    /// The ring, by the rules of the documentation.
    fn turn(&mut self, w: usize, ids: &[u64]) {
        for &id in ids {
            let ordinal = id / self.rows as u64;
            if self.lists.segments.iter().all(|segment| segment.0 != ordinal) {
                self.rotate(w);
            }
            let found = self.lists.segments.iter().position(|segment| segment.0 == ordinal);
            let at = found.expect("the oldest place that is not open");
            self.lists.segments[at].2.push(id);
            assert!(self.lists.segments[at].2.len() <= self.rows);
        }
    }

    /// A writer closes its segment and opens one in the oldest place that is not open.
    fn rotate(&mut self, w: usize) {
        let places = self.places;
        let Lists { segments, next, .. } = &mut self.lists;
        let writing = self.writers[w].as_mut().unwrap();
        if let Some(old) = writing.segment {
            segments[old].1 = false;
        }
        while segments.iter().any(|s| s.1 && s.0 % places == *next % places) {
            *next += 1;
        }
        segments.iter_mut().filter(|s| s.0 % places == *next % places).for_each(|s| s.2.clear());
        writing.segment = Some(segments.len());
        segments.push((*next, true, vec![]));
        *next += 1;
    }

    /// Ids that can be seen.
    fn visible(&self) -> BTreeSet<u64> {
        if self.strict && self.exact {
            let capacity = self.buffer.config().capacity;
            return self.lists.order.iter().rev().take(capacity).copied().collect();
        }
        if self.exact {
            return self.lists.segments.iter().flat_map(|segment| segment.2.iter().copied()).collect();
        }
        let ids = self.lists.order.iter().copied();
        let mut sampler = self.buffer.sampler(request(Method::Newest, Unit::Record, false)).unwrap();
        let steps = (1..=self.buffer.len()).rev();
        let all = steps
            .into_iter()
            .find_map(|n| sampler.sample_into(n, &mut []).ok().map(|drawn| drawn.ids.clone()));
        let all: BTreeSet<_> = all.unwrap_or_default().into_iter().collect();
        // Those that are never drawn are there if their neighbours are.
        ids.filter(|id| all.contains(id)).collect()
    }

    fn draw(&mut self, method: Method, unit: Unit, replace: bool) {
        let priorities = &self.priorities;
        let zero =
            |id: &u64| matches!(method, Method::Prioritised { .. }) && priorities.get(id) == Some(&0.0);
        let drawable: BTreeSet<u64> = self.visible().into_iter().filter(|id| !zero(id)).collect();
        let drawable: BTreeSet<u64> =
            drawable.into_iter().filter(|&id| self.lists.wanted(id, unit).is_some()).collect();
        let mut sampler = self.buffer.sampler(request(method, unit, replace)).unwrap();
        if drawable.is_empty() || !replace {
            let told = sampler.sample_into(drawable.len() + 1, &mut []).unwrap_err();
            assert!(
                matches!(told, Error::Drawable { drawable: n, .. } if n == drawable.len()),
                "{told}, {}",
                drawable.len()
            );
        }
        if drawable.is_empty() {
            return;
        }
        let count = if replace { 40 } else { drawable.len() };
        let run = if let Unit::Sequences(sequences) = unit { sequences.len } else { 1 };
        let (mut obs, mut stacks) = (vec![-1; 3 * count * run], vec![9; 2 * FRAMES * count * run]);
        let mut next = vec![-1; 3 * count];
        let mut targets = vec![
            Target { column: 0, of: Of::Drawn, data: DataMut::I32(&mut obs) },
            Target { column: 2, of: Of::Drawn, data: DataMut::U8(&mut stacks) },
        ];
        if let Unit::Returns(_) = unit {
            targets.push(Target { column: 0, of: Of::Next, data: DataMut::I32(&mut next) });
        }
        let drawn = sampler.sample_into(count, &mut targets).unwrap().clone();
        let ids: BTreeSet<_> = drawn.ids.iter().copied().collect();
        assert!(ids.is_subset(&drawable), "{ids:?} of {drawable:?}");
        if !replace {
            assert_eq!(ids, drawable);
        }
        for i in 0..count {
            self.check(
                &drawn,
                i,
                unit,
                &obs[3 * run * i..][..3 * run],
                &stacks[2 * FRAMES * run * i..],
                &next[3 * i..][..3],
            );
        }
    }

    fn check(&self, drawn: &Drawn, i: usize, unit: Unit, obs: &[i32], stacks: &[u8], next: &[i32]) {
        let id = drawn.ids[i];
        let (record, wanted) = (self.lists.record(id), self.lists.wanted(id, unit).unwrap());
        assert_eq!(obs[..3], record.obs);
        assert_eq!(stacks[..2 * FRAMES], record.stack);
        assert_eq!(drawn.steps[i], wanted.steps, "{record:?}");
        match unit {
            Unit::Record => {}
            Unit::Returns(_) => {
                assert_eq!(
                    (drawn.returns[i], drawn.discounts[i]),
                    (wanted.value, wanted.discount),
                    "{record:?}"
                );
                assert_eq!(next, wanted.next.unwrap_or_default(), "{record:?}");
            }
            Unit::Sequences(_) => {
                let want = wanted.run.concat();
                assert_eq!(obs[..want.len()], want);
                assert!(obs[want.len()..].iter().all(|&x| x == 0));
            }
        }
    }

    fn update(&mut self, seed: u64) {
        let ids: Vec<_> =
            self.lists.order.iter().copied().filter(|id| (id ^ seed).is_multiple_of(3)).collect();
        let priorities: Vec<_> = ids.iter().map(|id| ((id ^ seed) / 3 % 4) as f32).collect();
        let set = self.buffer.update_priorities(&ids, &priorities).unwrap();
        let visible = self.visible();
        let there = ids.iter().filter(|id| visible.contains(id)).count();
        assert!(if self.exact { set == there } else { set >= there }, "{set} of {there} are there");
        for (id, priority) in ids.into_iter().zip(priorities) {
            self.priorities.insert(id, priority);
        }
    }
}

fn request(method: Method, unit: Unit, replace: bool) -> Request {
    Request { method, replace, unit }
}

fn unit(choice: u8) -> Unit {
    match choice % 6 {
        0 => Unit::Record,
        1 => Unit::Returns(Returns { n: 1, gamma: GAMMA, reward: 1 }),
        2 | 3 => Unit::Returns(Returns { n: 3, gamma: GAMMA, reward: 1 }),
        4 => Unit::Sequences(Sequences { len: 3, pad: false }),
        _ => Unit::Sequences(Sequences { len: 3, pad: true }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, ..ProptestConfig::default() })]
    #[test]
    fn it_is_what_plain_lists_say(
        capacity in 4usize..40, segments in 2usize..7, strict in any::<bool>(), exact in any::<bool>(),
        schedule in prop::collection::vec((0u8..12, any::<u8>(), any::<u64>()), 1..40),
    ) {
        prop_assume!(segments <= capacity);
        let mut run = Run::new(capacity, segments, strict, exact);
        run.open(1);
        for (op, choice, bits) in schedule {
            let method = match choice / 6 % 3 {
                0 => Method::Uniform,
                1 => Method::Newest,
                _ => Method::Prioritised { beta: 0.5 },
            };
            match op {
                0 => run.open(1 + usize::from(choice % 3)),
                // The simple ring has no writers that leave segments behind.
                1 if !exact || strict => {
                    let live = run.writers.iter().position(Option::is_some);
                    if let Some(w) = live {
                        run.writers[w] = None;
                        // Another number of streams would leave a segment half full.
                        run.open(if exact { 1 } else { 1 + usize::from(choice % 2) });
                    }
                }
                1 | 2 => run.update(bits),
                3..8 => run.add(choice.into(), 1 + (bits % 9) as usize, bits),
                _ => run.draw(method, unit(choice), choice >= 128 && method != Method::Newest),
            }
        }
    }
}
