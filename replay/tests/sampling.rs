//! How often records are drawn and with which weights, on any number of threads; and what is refused.

use hotlanes_replay::{
    Buffer, Codec, Column, Config, Data, DataMut, Dtype, Eviction, Method, Of, Request, Returns, Schema,
    Sequences, Step, Target, Unit,
};

const UNIFORM: Request = Request { method: Method::Uniform, replace: true, unit: Unit::Record };

/// A buffer of `count` records of one `f32`, their numbers.
fn numbers(count: usize, config: Config) -> (Buffer, Vec<u64>) {
    let buffer = Buffer::new(Schema::new(vec![Column::new("x", Dtype::F32, &[])]).unwrap(), config).unwrap();
    let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
    let mut writer = buffer.writer(1).unwrap();
    writer.add(count, &[Data::F32(&values)], &[]).unwrap();
    let ids = writer.ids().collect();
    (buffer, ids)
}

/// How often each record is drawn, per draw.
fn shares(buffer: &Buffer, ids: &[u64], request: Request, draws: usize) -> Vec<f64> {
    let mut counts = vec![0; ids.len()];
    let mut sampler = buffer.sampler(request).unwrap();
    let mut x = [0.0; 100];
    for _ in 0..draws / 100 {
        let mut targets = [Target { column: 0, of: Of::Drawn, data: DataMut::F32(&mut x) }];
        let drawn = sampler.sample_into(100, &mut targets).unwrap();
        for (&id, &x) in drawn.ids.iter().zip(&x) {
            assert_eq!(ids[x as usize], id);
            counts[x as usize] += 1;
        }
    }
    counts.into_iter().map(|count| f64::from(count) / draws as f64).collect()
}

#[test]
fn records_are_drawn_evenly_or_by_their_priorities() {
    let config = Config { segments: 5, priorities: Some(0.5), episodes: false, ..Config::new(50) };
    let (buffer, ids) = numbers(40, config);
    let draws = 200_000;
    // A share's deviation is sqrt(share / draws): five of them.
    let near = |share: f64, want: f64| (share - want).abs() <= 5.0 * (want / draws as f64).sqrt();
    for share in shares(&buffer, &ids, UNIFORM, draws) {
        assert!(near(share, 1.0 / 40.0), "{share}");
    }
    let priorities: Vec<f32> = (0..40).map(|i| (i % 5 * i % 5) as f32).collect();
    assert_eq!(buffer.update_priorities(&ids, &priorities).unwrap(), 40);
    let request = Request { method: Method::Prioritised { beta: 1.0 }, ..UNIFORM };
    let total: f64 = priorities.iter().map(|&p| f64::from(p).sqrt()).sum();
    for (share, &priority) in shares(&buffer, &ids, request, draws).into_iter().zip(&priorities) {
        assert!(near(share, f64::from(priority).sqrt() / total), "{share} for {priority}");
    }
}

#[test]
fn importance_weights_are_relative_to_the_greatest() {
    let config = Config { segments: 2, priorities: Some(1.0), episodes: false, ..Config::new(8) };
    let (buffer, ids) = numbers(4, config);
    let priorities = [1.0, 2.0, 4.0, 8.0];
    buffer.update_priorities(&ids, &priorities).unwrap();
    for beta in [0.0, 0.5, 1.0] {
        let request = Request { method: Method::Prioritised { beta }, replace: false, unit: Unit::Record };
        let mut sampler = buffer.sampler(request).unwrap();
        let drawn = sampler.sample_into(4, &mut []).unwrap();
        for (id, &weight) in drawn.ids.iter().zip(&drawn.weights) {
            let priority = priorities[ids.iter().position(|other| other == id).unwrap()];
            assert!((weight - f32::powf(priority, -beta)).abs() < 1e-6, "{weight} for {priority}, {beta}");
        }
    }
}

#[test]
fn all_priorities_of_zero_are_an_error_and_bad_ones_are_named() {
    let config = Config { priorities: Some(0.7), episodes: false, ..Config::new(32) };
    let (buffer, ids) = numbers(3, config);
    let told = |p: f32| buffer.update_priorities(&ids, &[1.0, p, 1.0]).unwrap_err().to_string();
    assert_eq!(told(-1.0), "priority 1 is -1: must be from 0 to 1e24");
    assert_eq!(told(f32::NAN), "priority 1 is NaN: must be from 0 to 1e24");
    assert_eq!(told(f32::INFINITY), "priority 1 is inf: must be from 0 to 1e24");
    let told = buffer.update_priorities(&ids, &[1.0]).unwrap_err().to_string();
    assert_eq!(told, "priorities: expected 3, one for each id, given 1");
    buffer.update_priorities(&ids, &[0.0; 3]).unwrap();
    let request = Request { method: Method::Prioritised { beta: 1.0 }, ..UNIFORM };
    let told = buffer.sampler(request).unwrap().sample_into(1, &mut []).unwrap_err().to_string();
    assert!(told.starts_with("1 records to be drawn, of 0 that can be"), "{told}");
    // The smallest of all priorities is one.
    buffer.update_priorities(&ids[..1], &[f32::from_bits(1)]).unwrap();
    assert_eq!(buffer.sampler(request).unwrap().sample_into(2, &mut []).unwrap().ids, [ids[0]; 2]);
}

#[test]
fn the_draw_is_the_same_on_any_number_of_threads() {
    const WIDE: usize = 20_000;
    let draw = |threads: usize| {
        let schema = Schema::new(vec![Column::new("x", Dtype::F32, &[WIDE])]).unwrap();
        let buffer = Buffer::new(schema, Config { seed: 9, ..Config::new(64) }).unwrap();
        let values: Vec<f32> = (0..64 * WIDE).map(|i| i as f32).collect();
        buffer.writer(1).unwrap().add(64, &[Data::F32(&values)], &[]).unwrap();
        let mut sampler = buffer.sampler(UNIFORM).unwrap();
        let mut x = vec![0.0; 101 * WIDE];
        let mut draws = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            for _ in 0..2 {
                let mut targets = [Target { column: 0, of: Of::Drawn, data: DataMut::F32(&mut x) }];
                draws.push(sampler.sample_into(101, &mut targets).unwrap().clone());
                let whole = |row: &[f32]| row.windows(2).all(|pair| pair[1] == pair[0] + 1.0);
                assert!(x.chunks(WIDE).all(whole));
            }
        });
        (draws, x)
    };
    let one = draw(1);
    assert_ne!(one.0[0].ids, one.0[1].ids);
    assert!(draw(2) == one && draw(5) == one);
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let schema = || {
        let wide = Column::new("wide", Dtype::F32, &[2]);
        Schema::new(vec![Column::new("x", Dtype::F32, &[]), wide]).unwrap()
    };
    let plain = Buffer::new(schema(), Config { episodes: false, ..Config::new(32) }).unwrap();
    let buffer = Buffer::new(schema(), Config::new(32)).unwrap();
    let told = |buffer: &Buffer, request: Request| buffer.sampler(request).err().unwrap().to_string();
    let unit = |unit| Request { unit, ..UNIFORM };
    let returns = |n, gamma, reward| unit(Unit::Returns(Returns { n, gamma, reward }));
    assert_eq!(told(&buffer, returns(0, 1.0, 0)), "n is 0: must be 1 to 2^20");
    assert_eq!(told(&buffer, returns(1, f32::NAN, 0)), "gamma is NaN: must be 0 to 1");
    assert!(
        told(&buffer, returns(1, 1.0, 1))
            .starts_with("reward is 1: must be the place of a column of one f32")
    );
    assert!(told(&buffer, returns(1, 1.0, 9)).starts_with("reward is 9"));
    assert!(told(&plain, returns(1, 1.0, 0)).ends_with("the buffer must have episodes"));
    let sequences = unit(Unit::Sequences(Sequences { len: 0, pad: true }));
    assert_eq!(told(&buffer, sequences), "len is 0: must be 1 to 2^20");
    let prioritised = Request { method: Method::Prioritised { beta: 1.0 }, ..UNIFORM };
    assert_eq!(told(&buffer, prioritised), "method is Prioritised: the buffer must have priorities");

    buffer.writer(1).unwrap().add(2, &[Data::F32(&[0.0; 2]), Data::F32(&[0.0; 4])], &[]).unwrap();
    let mut sampler = buffer.sampler(UNIFORM).unwrap();
    let mut into = |count, column, of, len: usize| {
        let mut x = vec![0.0; len];
        let mut targets = [Target { column, of, data: DataMut::F32(&mut x) }];
        sampler.sample_into(count, &mut targets).err().unwrap().to_string()
    };
    assert_eq!(into(3, 1, Of::Drawn, 5), "column wide: expected 6 elements (3 x [2]), given 5");
    assert_eq!(into(3, 2, Of::Drawn, 3), "column is 2: must be a place in the schema");
    assert_eq!(into(3, 0, Of::Next, 3), "of is Next: the sampler's unit must be returns");
    assert_eq!(into(0, 0, Of::Drawn, 0), "count is 0: must be 1 to 2^32");
}

#[test]
fn what_is_refused_adds_nothing() {
    let flags = Column::new("flags", Dtype::U8, &[2]).codec(Codec::BitPlanes { plane: 2, constant: 0 });
    let schema = Schema::new(vec![Column::new("x", Dtype::F32, &[]), flags]).unwrap();
    let buffer = Buffer::new(schema, Config { segments: 2, ..Config::new(4) }).unwrap();
    let mut writer = buffer.writer(2).unwrap();
    let mut told = |records: usize, flags: &[u8], steps: &[Step]| {
        let x = vec![0.0; records];
        writer.add(records, &[Data::F32(&x), Data::U8(flags)], steps).unwrap_err().to_string()
    };
    assert_eq!(told(3, &[0; 6], &[]), "records: expected a multiple of the 2 streams, given 3");
    assert_eq!(told(0, &[], &[]), "records: expected a multiple of the 2 streams, given 0");
    // In the segment after the first.
    let wanted = "column flags, record 3: element 1 is 7: must be 0 or 1 in a bit plane";
    assert_eq!(told(4, &[0, 1, 1, 0, 0, 0, 1, 7], &[]), wanted);
    use Step::{Continues, Final, Terminated};
    let wanted = "record 1 is Final: must follow a step that is Terminated or Truncated";
    assert_eq!(told(2, &[0; 4], &[Continues, Final]), wanted);
    let wanted = "kinds of step: expected 2, one for each record, or none, given 1";
    assert_eq!(told(2, &[0; 4], &[Terminated]), wanted);
    assert!(buffer.is_empty());
    let first = writer.add(2, &[Data::F32(&[1.0; 2]), Data::U8(&[1; 4])], &[Terminated, Continues]).unwrap();
    assert_eq!((first, buffer.len()), (0, 2));
    let plain = Buffer::new(buffer.schema().clone(), Config { episodes: false, ..Config::new(32) }).unwrap();
    let data = [Data::F32(&[1.0][..]), Data::U8(&[1; 2])];
    let told = plain.writer(1).unwrap().add(1, &data, &[Continues]).unwrap_err().to_string();
    assert_eq!(told, "kinds of step: expected none, since the buffer has no episodes, given 1");
}

#[test]
fn writers_and_capacities_have_limits() {
    let new = |config| Buffer::new(Schema::new(vec![Column::new("x", Dtype::F32, &[])]).unwrap(), config);
    let told = |config| new(config).err().unwrap().to_string();
    assert_eq!(told(Config::new(0)), "capacity is 0: must be 1 to 2^40 records");
    let segments = |segments| Config { segments, ..Config::new(10) };
    assert_eq!(told(segments(1)), "segments is 1: must be 2 to 65536, or 0 for a number that fits");
    assert_eq!(told(Config { priorities: Some(1.5), ..Config::new(9) }), "alpha is 1.5: must be 0 to 1");
    let huge = Config { segments: 2, ..Config::new(1 << 40) };
    assert_eq!(told(huge), "segments is 2: must be so many that each has at most 2^31 records");
    let buffer = new(segments(2)).unwrap();
    let _two = [buffer.writer(1).unwrap(), buffer.writer(1).unwrap()];
    let wanted = "3 writers: there must be at most 2, the segments, and one where eviction is by record";
    assert_eq!(buffer.writer(1).err().unwrap().to_string(), wanted);
    let wanted = "streams is 6: must be 1 to the number of a segment's records";
    assert_eq!(buffer.writer(6).err().unwrap().to_string(), wanted);
    let strict = new(Config { eviction: Eviction::Record, ..Config::new(10) }).unwrap();
    let writer = strict.writer(1).unwrap();
    assert!(strict.writer(1).err().unwrap().to_string().starts_with("2 writers"));
    drop(writer);
    strict.writer(1).unwrap();
}

/// One that ends is not one that is cut, and what follows is another episode.
#[test]
fn the_ends_of_episodes_are_told_apart() {
    let schema = Schema::new(vec![Column::new("x", Dtype::F32, &[])]).unwrap();
    let buffer = Buffer::new(schema, Config { segments: 8, ..Config::new(32) }).unwrap();
    use Step::{Continues as C, Final, Terminated, Truncated};
    let steps = [C, C, Terminated, C, Truncated, Final, C, Truncated, C, C];
    let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
    buffer.writer(1).unwrap().add(10, &[Data::F32(&x)], &steps).unwrap();
    let unit = Unit::Returns(Returns { n: 2, gamma: 0.5, reward: 0 });
    let mut sampler = buffer.sampler(Request { method: Method::Newest, replace: false, unit }).unwrap();
    let (mut at, mut next) = ([0.0; 7], [0.0; 7]);
    let mut targets = [
        Target { column: 0, of: Of::Drawn, data: DataMut::F32(&mut at) },
        Target { column: 0, of: Of::Next, data: DataMut::F32(&mut next) },
    ];
    let drawn = sampler.sample_into(7, &mut targets).unwrap();
    // 9 is the newest and 7 was cut, both without an observation after them; 5 is no step.
    assert_eq!(at, [8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    assert_eq!(next, [9.0, 7.0, 5.0, 5.0, 0.0, 0.0, 2.0]);
    assert_eq!(drawn.steps, [1, 1, 1, 2, 1, 2, 2]);
    assert_eq!(drawn.discounts, [0.5, 0.5, 0.5, 0.25, 0.0, 0.0, 0.25]);
    assert_eq!(drawn.returns, [8.0, 6.0, 4.0, 5.0, 2.0, 2.0, 0.5]);
    assert!(sampler.sample_into(8, &mut []).is_err());
}
