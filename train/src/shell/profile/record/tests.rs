use super::super::{group, op, phase, region, step};
use super::*;
use crate::shell::progress::note;

/// On a pool of its own: other tests' threads are not recorded then.
fn pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn recorded(capacity: usize, run: impl FnOnce()) -> Record {
    let mut recording = Recording::new(capacity).unwrap();
    recording.switch(true);
    run();
    recording.finish()
}

#[test]
fn spans_have_their_names_fields_and_places() {
    let number = (1 << 40) + 5;
    let record = pool(1, || {
        recorded(100, || {
            let _step = step(number);
            let work = Work { flops: 6.0, bytes: 7.0 };
            let result = op!("outer", 3, [4, 5, 1 << 40], work => {
                op!("inner", None, [0; 3], Work::default() => 1) + 1
            });
            assert_eq!(result, 2);
            region!("region" => group!("group" => phase!("phase" => ())));
        })
    });
    let [thread] = &record.threads[..] else { panic!("{record:?}") };
    let got: Vec<_> = thread.spans.iter().map(|span| (span.name, span.kind, span.parent)).collect();
    let want = [
        ("step", Kind::Step, None),
        ("outer", Kind::Operation, Some(0)),
        ("inner", Kind::Operation, Some(1)),
        ("region", Kind::Region, Some(0)),
        ("group", Kind::Group, Some(3)),
        ("phase", Kind::Phase, Some(4)),
    ];
    assert_eq!(got, want);
    let [step, outer, inner, ..] = &thread.spans[..] else { unreachable!() };
    assert_eq!((step.step(), outer.layer, inner.layer), (number, Some(3), None));
    assert_eq!((outer.shape, outer.work), ([4, 5, u32::MAX], Work { flops: 6.0, bytes: 7.0 }));
    assert!(
        thread
            .spans
            .iter()
            .all(|span| step.start <= span.start && span.start <= span.end && span.end <= step.end)
    );
}

#[test]
fn threads_of_the_pool_are_recorded_and_the_stepping_one_is_first() {
    let record = pool(3, || {
        recorded(100, || {
            let _step = step(1);
            rayon::broadcast(|_| op!("everywhere", None, [0; 3], Work::default() => ()));
            std::thread::scope(|scope| {
                scope.spawn(|| op!("elsewhere", None, [0; 3], Work::default() => ()));
            });
        })
    });
    assert_eq!(record.threads.len(), 3);
    assert_eq!(record.threads[0].spans[0].kind, Kind::Step);
    for thread in &record.threads {
        assert_eq!(thread.spans.iter().filter(|span| span.name == "everywhere").count(), 1);
        assert!(thread.spans.iter().all(|span| span.name != "elsewhere"));
    }
}

#[test]
fn memory_is_bounded_and_what_has_no_room_is_counted() {
    let record = pool(1, || {
        recorded(3, || {
            let _step = step(1);
            for _ in 0..5 {
                op!("outer", None, [0; 3], Work::default() => op!("inner", None, [0; 3], Work::default() => ()));
            }
        })
    });
    let thread = &record.threads[0];
    assert_eq!((thread.spans.len(), thread.dropped, record.dropped()), (3, 8, 8));
    assert_eq!(thread.spans[2].parent, Some(1));
    assert!(thread.spans[0].end >= thread.spans[2].end, "the step ends, although the buffer is full");
}

#[test]
fn what_is_open_ends_with_the_recording() {
    let record = pool(1, || {
        let mut recording = Recording::new(10).unwrap();
        recording.switch(true);
        let open = step(1);
        op!("before", None, [0; 3], Work::default() => ());
        let record = recording.finish();
        drop(open);
        record
    });
    let [step, before] = &record.threads[0].spans[..] else { panic!("{record:?}") };
    assert!(step.end >= before.end && before.end > 0);
}

#[test]
fn nothing_is_recorded_or_computed_while_it_is_off() {
    let run = || op!("while off", None, [0; 3], Work::default() => ());
    let record = pool(1, || {
        let mut recording = Recording::new(10).unwrap();
        run();
        recording.switch(true);
        op!("on", None, [0; 3], Work::default() => ());
        recording.switch(false);
        run();
        assert_eq!(recording.filled(), (1, 10));
        // Another recording of the same threads would mix the two.
        assert_eq!(Recording::new(10).unwrap_err(), RecordError::Busy);
        recording.finish()
    });
    assert_eq!(record.threads[0].spans.iter().map(|span| span.name).collect::<Vec<_>>(), ["on"]);
    // Dropped, a recording gives its threads free.
    pool(1, || {
        drop(Recording::new(10).unwrap());
        assert!(Recording::new(10).is_ok());
    });
}

/// Nanoseconds of a span: `cargo test --release -p hotlanes-train --lib -- --ignored --nocapture cost_of_a_span`.
#[test]
#[ignore = "timing: in release, on a quiet machine"]
fn cost_of_a_span() {
    const SPANS: usize = 100_000;
    let time = || {
        let started = std::time::Instant::now();
        for i in 0..SPANS {
            let i = std::hint::black_box(i);
            op!("operation", i, [i; 3], Work::of_values(2 * i, i) => std::hint::black_box(i));
        }
        started.elapsed().as_secs_f64() * 1e9 / SPANS as f64
    };
    let fastest = |run: &dyn Fn() -> f64| (0..20).map(|_| run()).fold(f64::MAX, f64::min);
    let [off, on] = pool(1, || {
        let on = || {
            let mut recording = Recording::new(SPANS).unwrap();
            recording.switch(true);
            time()
        };
        [fastest(&time), fastest(&on)]
    });
    note(format_args!("a span costs {off:.1} ns off and {on:.1} ns on"));
    assert!(off < 5.0 && on < 150.0, "{off} {on}");
}
