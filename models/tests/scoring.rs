//! Models as their users see them: the same scores however rows arrive, faults found, bytes that come back.

use proptest::prelude::*;
use stillwell_models::{Alarm, Model, ModelError, RowScore, ScorerState, TrainSettings, train};

const SENSORS: usize = 6;

/// A machine whose sensors follow one load, with noise: row `i`.
fn row(i: usize) -> [f32; SENSORS] {
    let noise = |s: usize| {
        let mut x = (i * SENSORS + s) as u64 ^ 0x9e37_79b9;
        for _ in 0..3 {
            x = (x ^ (x >> 15)).wrapping_mul(0x2545_f491_4f6c_dd1d);
        }
        (x >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let load = (i as f32 * 0.05).sin() + 0.5 * (i as f32 * 0.013).cos();
    std::array::from_fn(|s| 10.0 * s as f32 + (1.0 + s as f32) * load + 0.3 * noise(s))
}

fn rows(from: usize, to: usize) -> Vec<f32> {
    (from..to).flat_map(row).collect()
}

fn names() -> Vec<String> {
    (0..SENSORS).map(|s| format!("sensor-{s}")).collect()
}

fn model() -> Model {
    train(&names(), &rows(0, 400), &TrainSettings::default()).unwrap()
}

#[test]
fn training_is_repeatable_and_its_bytes_come_back() {
    let (one, two) = (model(), model());
    assert_eq!(one.hash(), two.hash());
    let back = Model::from_bytes(&one.to_bytes()).unwrap();
    assert_eq!((back.hash(), back.sensors(), back.rows()), (one.hash(), one.sensors(), 400));
    let bytes = one.to_bytes();
    for cut in [0, 5, 20, bytes.len() - 1] {
        assert!(matches!(Model::from_bytes(&bytes[..cut]), Err(ModelError::Bytes { .. })));
    }
    assert!(matches!(
        train(&names(), &rows(0, 10), &TrainSettings::default()),
        Err(ModelError::TooFew { .. })
    ));
}

#[test]
fn normal_rows_stay_below_the_threshold_and_each_fault_is_found() {
    let model = model();
    let mut state = ScorerState::new(&model);
    let normal = model.score(&mut state, &rows(400, 3000));
    let raised = normal.iter().filter(|score| score.alarm == Alarm::Raised).count();
    assert!(raised <= 1, "{raised} false alarms in 2,600 normal rows");

    type Fault = fn(usize, &mut [f32; SENSORS]);
    let faults: [(&str, Fault); 4] = [
        ("spike", |_, row| row[2] += 12.0),
        ("drift", |i, row| row[3] += i as f32 * 0.2),
        ("stuck", |_, row| row[4] = 41.0),
        ("dropout", |_, row| row[1] = f32::NAN),
    ];
    for (what, fault) in faults {
        let mut state = state.clone();
        let broken: Vec<f32> = (3000..3120)
            .flat_map(|i| {
                let mut cells = row(i);
                fault(i - 3000, &mut cells);
                cells
            })
            .collect();
        let scores = model.score(&mut state, &broken);
        let first = scores.iter().find(|score| score.alarm == Alarm::Raised);
        let first = first.unwrap_or_else(|| panic!("{what} is not found"));
        assert!(first.score > model.threshold() && !first.contributors.is_empty(), "{what}");
    }
}

#[test]
fn a_value_out_of_all_bounds_leaves_no_trace() {
    let model = model();
    let (mut with, mut without) = (ScorerState::new(&model), ScorerState::new(&model));
    let mut broken = rows(400, 500);
    let mut missing = broken.clone();
    (broken[50], broken[61]) = (f32::INFINITY, -3.4e38);
    (missing[50], missing[61]) = (f32::NAN, f32::NAN);
    assert_eq!(model.score(&mut with, &broken), model.score(&mut without, &missing));
    assert_eq!(with.to_bytes(), without.to_bytes());

    let mut lesson = rows(0, 400);
    lesson[100] = f32::INFINITY;
    let taught = train(&names(), &lesson, &TrainSettings::default()).unwrap();
    assert!(taught.threshold().is_finite());
}

#[test]
fn a_model_of_numbers_that_are_not_finite_is_refused() {
    let mut bytes = model().to_bytes();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(Model::from_bytes(&bytes), Err(ModelError::Bytes { .. })));
    let settings = TrainSettings { learning_rate: 1e30, ..TrainSettings::default() };
    assert!(matches!(train(&names(), &rows(0, 400), &settings), Err(ModelError::NotFinite { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scores_do_not_depend_on_how_rows_arrive(cuts in prop::collection::vec((1usize..50, any::<bool>()), 1..40), seed in 0usize..1000) {
        use std::sync::LazyLock;
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| model().to_bytes());
        let model = Model::from_bytes(&BYTES).unwrap();
        let mut all = rows(400 + seed, 700 + seed);
        // Something missing, and something wrong.
        all.iter_mut().skip(seed % 97).step_by(97).for_each(|cell| *cell = f32::NAN);
        all[600..900].iter_mut().for_each(|cell| *cell += 9.0);
        let mut at_once_state = ScorerState::new(&model);
        let at_once = model.score(&mut at_once_state, &all);

        let mut state = ScorerState::new(&model);
        let mut scores: Vec<RowScore> = Vec::new();
        let mut rest = &all[..];
        for (rows, is_stored) in cuts.into_iter().chain([(300, false)]) {
            let (some, tail) = rest.split_at((rows * SENSORS).min(rest.len()));
            scores.extend(model.score(&mut state, some));
            if is_stored {
                state = ScorerState::from_bytes(&state.to_bytes()).unwrap();
            }
            rest = tail;
        }
        prop_assert_eq!(scores.len(), at_once.len());
        for (one, other) in scores.iter().zip(&at_once) {
            prop_assert_eq!(one.score.to_bits(), other.score.to_bits());
            prop_assert_eq!(one, other);
        }
        prop_assert_eq!(state.to_bytes(), at_once_state.to_bytes());
    }
}
