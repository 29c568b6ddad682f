//! One hash for a run, whatever the tier and the threads.

use hotlanes::Tier;
use hotlanes_train::models::mlp::engine::Engine;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::run::Run;
use hotlanes_train::models::mlp::settings::{Act, LossKind, Settings};
use hotlanes_train::store::hash;

use crate::common::{batch, load, predictor, recipe, rough, settings};

/// The model, the moments and the step.
fn hash_of(engine: &Engine) -> u64 {
    let (m, v, steps) = engine.state();
    [engine.params(), m, v].iter().fold(hash::add(hash::START, steps), |hash, all| hash::floats(hash, all))
}

/// Losses, gradients and model of three steps, of which the last has fewer rows, and predictions.
fn steps(settings: &Settings, loss: LossKind, outputs: usize) -> u64 {
    let layout = Layout::new(4, &settings.hidden, outputs, settings.dropout > 0.0);
    let mut engine = Engine::new(layout.clone(), settings, loss).unwrap();
    engine.restore(&rough(&layout, 1), &layout.zeros(), &layout.zeros(), 0);
    let mut hash = hash::START;
    for (step, rows) in
        [settings.batch, settings.batch, settings.batch.div_ceil(2) + 3].into_iter().enumerate()
    {
        let (x, targets) = batch(loss, &layout, rows, step as u64);
        hash = hash::add(hash, engine.gradients(&x, targets.targets()).to_bits());
        hash = hash::floats(hash, engine.gradient());
        engine.step(0.01);
    }
    let mut predictor = predictor(&layout, settings, loss, layout.init(3));
    for row in [[0.5, -0.25, 1.0, 3.0], [1e6, -1e6, 0.0, 1e-30]] {
        let values = predictor.predict_row(&row).iter().map(|value| value.to_bits());
        hash = hash::words(hash, values);
    }
    hash::add(hash, hash_of(&engine))
}

/// History and model of a whole run.
fn run() -> u64 {
    let (recipe, data) = load(recipe(Settings { dropout: 0.1, ..settings() }));
    let mut run = Run::new(recipe.settings, &data).unwrap();
    let mut hash = hash::START;
    while run.epoch() < 4 || run.is_due() {
        if run.is_due() {
            run.evaluate().unwrap();
            let history = &run.history;
            for point in [history.training, history.validation, history.best].into_iter().flatten() {
                hash = hash::add(hash::add(hash, point.epoch), point.loss.to_bits());
            }
        } else {
            run.advance().unwrap();
        }
    }
    hash::add(hash, hash_of(&run.engine))
}

fn all() -> [u64; 6] {
    let of = |batch, activation, hidden: &[usize], dropout| Settings {
        batch,
        activation,
        hidden: hidden.to_vec(),
        dropout,
        delta: 0.7,
        ..settings()
    };
    [
        run(),
        steps(&of(9, Act::Silu, &[], 0.0), LossKind::Mse, 1),
        // Of two and of four chunks.
        steps(&of(300, Act::Gelu, &[7, 6], 0.0), LossKind::Huber, 1),
        steps(&of(1000, Act::Relu, &[9], 0.2), LossKind::CrossEntropy, 5),
        steps(&of(1000, Act::Tanh, &[8, 3, 8], 0.1), LossKind::Bce, 1),
        steps(&of(300, Act::Silu, &[17], 0.0), LossKind::L1, 1),
    ]
}

/// Where one moves it is said in CHANGELOG.md, with the reason.
const GOLDEN: [u64; 6] = [
    0x823d_c8ba_038d_c985,
    0x19db_9596_e68f_5f17,
    0x538e_254e_69d8_3658,
    0x82cf_29e0_99a1_0c07,
    0xcbc2_f267_4a20_e191,
    0x81cf_f553_a5c2_1c6e,
];

#[test]
fn tiers_and_threads_give_the_golden_hash() {
    let best = Tier::available().next_back();
    for tier in Tier::available() {
        let threads: &[usize] = if Some(tier) == best { &[1, 2, 4] } else { &[2] };
        for &threads in threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let hashes = pool.install(|| hotlanes::with_tier(tier, all).unwrap());
            assert_eq!(hashes, GOLDEN, "{hashes:#x?} on {tier}, {threads} threads");
        }
    }
}

#[test]
fn settings_change_everything() {
    let after = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        let (recipe, data) = load(recipe(settings));
        let mut run = Run::new(recipe.settings, &data).unwrap();
        (0..5).for_each(|_| run.advance().unwrap());
        hash_of(&run.engine)
    };
    let base = after(&|_| ());
    let changes: [&dyn Fn(&mut Settings); 9] = [
        &|s| s.seed = 2,
        &|s| s.batch = 11,
        &|s| s.dropout = 0.2,
        &|s| s.activation = Act::Tanh,
        &|s| s.loss = Some(LossKind::L1),
        &|s| s.warmup = 0,
        &|s| s.decay = 5,
        &|s| s.weight_decay = 0.0,
        &|s| s.beta2 = 0.99,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        assert_ne!(after(change), base, "change {i}");
    }
    assert_eq!(after(&|s| s.patience = 1), base);
}
