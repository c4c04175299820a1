//! What enters a job key, and what must not.

use super::*;
use crate::config::semantic::*;
use crate::ids::Phase;

fn text(config: &Config, phase: Phase) -> String {
    let settings = config.semantic(&dataset("hcrl_sa"), phase).settings();
    settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// Which phases a setting makes stale.
fn changed_by(flag: &str) -> Vec<Phase> {
    let (before, after) = (Config::built_in(), flags(&[flag]).unwrap());
    Phase::ALL.into_iter().filter(|phase| text(&before, *phase) != text(&after, *phase)).collect()
}

#[test]
fn a_setting_changes_the_phases_it_can_change_and_no_other() {
    use Phase::{Fusion, Student, Teacher};
    for (flag, phases) in [
        ("lr=0.01", vec![Teacher, Student, Fusion]),
        ("epochs=3", vec![Teacher, Student]),
        ("data.window=50", vec![Teacher, Student, Fusion]),
        ("teacher.gat.lr=0.01", vec![Teacher]),
        ("student.kd.temperature=5", vec![Student]),
        ("models.gat.small.heads=2", vec![Student]),
        ("fusion.episodes=10", vec![Fusion]),
        ("fusion.size=large", vec![Fusion]),
        ("batch_size=64", vec![]),
        ("teacher.gat.lr=0.001", vec![]),
        ("models.dqn.large.hidden=8", vec![]),
        ("device=cpu", vec![]),
        ("mixed_precision=fp32", vec![]),
        ("micro_batch=8", vec![]),
        ("teacher.tuning.workers=1", vec![]),
        ("checkpoint_every_epochs=5", vec![]),
        ("checkpoint_every_minutes=5", vec![]),
        ("gpu_profiles.t4.micro_batch=1", vec![]),
        ("pipeline.phases.teacher.expected_minutes=1", vec![]),
        ("datasets.hcrl_sa.priority=1", vec![]),
        ("datasets.set_01.overrides.lr=0.01", vec![]),
        ("datasets.hcrl_sa.overrides.lr=0.01", vec![Teacher, Student, Fusion]),
    ] {
        assert_eq!(changed_by(flag), phases, "{flag}");
    }
}

#[test]
fn the_text_does_not_depend_on_how_a_number_was_written() {
    let a = flags(&["lr=0.002", "teacher.vgae.weight_decay=0", "student.kd.temperature=5"]).unwrap();
    let b = flags(&["lr=2.0e-3", "teacher.vgae.weight_decay=-0.0", "student.kd.temperature=5.0"]).unwrap();
    for phase in Phase::ALL {
        assert_eq!(text(&a, phase), text(&b, phase));
    }
}

#[test]
fn the_text_is_the_one_job_keys_were_made_of() {
    // A change here makes everything that was ever trained stale: raise the schema version of the
    // job key on purpose, never by accident.
    let expected = "\
data.chunk_rule = \"whole\"
data.encoding = \"profile\"
data.profile_messages = 4000
data.split.embargo_windows = 1
data.split.kind = \"random_dedup\"
data.split.seed = 42
data.split.val_fraction = 0.2
data.stride = 100
data.varied_copies = 2
data.vocabulary = \"all_train\"
data.window = 100
fusion.arch.actions = 21
fusion.arch.dropout = 0.2
fusion.arch.hidden = 160
fusion.arch.layers = 2
fusion.batch_size = 128
fusion.episodes = 60
fusion.epsilon_decay = 0.95
fusion.epsilon_end = 0.05
fusion.epsilon_start = 0.9
fusion.gamma = 0.5
fusion.grad_clip = 1
fusion.gradient_steps_per_episode = 32
fusion.lr = 0.001
fusion.patience = 6
fusion.replay_size = 50000
fusion.samples_per_episode = 4000
fusion.seed = 42
fusion.states_from = \"student\"
fusion.target_copy_steps = 50
fusion.threshold.rule = \"best_f1\"
fusion.threshold.target_fpr = 0.01
fusion.train_states_max = 150000
fusion.val_states_max = 30000
fusion.validate_every_episodes = 5
fusion.weight_decay = 0.00001
";
    assert_eq!(text(&Config::built_in(), Phase::Fusion), expected);
    let teacher = Config::built_in().semantic(&dataset("any"), Phase::Teacher).settings();
    assert_eq!(teacher["teacher.gat.lr"], "0.001");
    assert_eq!(teacher["teacher.vgae.arch.encoder.0.width"], "120");
    assert!(teacher.keys().all(|key| key.starts_with("data.") || key.starts_with("teacher.")));
}

#[test]
fn typed_semantics_survive_both_wire_forms() {
    for phase in Phase::ALL {
        let semantic = Config::built_in().semantic(&dataset("any"), phase);
        let json = serde_json::to_value(&semantic).unwrap();
        assert_eq!(serde_json::from_value::<PhaseSemantic>(json).unwrap(), semantic);
        let bytes = rmp_serde::to_vec_named(&semantic).unwrap();
        assert_eq!(rmp_serde::from_slice::<PhaseSemantic>(&bytes).unwrap(), semantic);
    }
    let foreign = serde_json::json!({ "heads": 1, "width": 2, "depth": 3 });
    assert!(serde_json::from_value::<GatLayer>(foreign).is_err(), "unknown fields are refused");
}

/// Parameters of one GATConv layer: in x H x o weights and 3 x H x o for both attention vectors and the bias.
fn gat_conv(input: u32, layer: GatLayer) -> u32 {
    (input + 3) * layer.out()
}

#[test]
fn the_sizes_give_the_published_parameter_counts() {
    use ModelSize::{Large, Small};
    let linear = |input: u32, output: u32| (input + 1) * output;
    for (ids, size, vgae, gat) in [
        (30, Large, 185_850, 311_138),
        (30, Small, 9_186, 49_202),
        (53, Large, 188_840, 311_506),
        (53, Small, 10_060, 49_386),
        (1791, Large, 414_780, 339_314),
        (1791, Small, 76_104, 63_290),
        (2049, Large, 448_320, 343_442),
        (2049, Small, 85_908, 65_354),
    ] {
        let a = VgaeArch::of_size(size);
        let mut count = ids * a.id_embedding;
        let mut width = a.id_embedding + 10;
        for layer in &a.encoder {
            count += gat_conv(width, *layer) + 2 * layer.out();
            width = layer.out();
        }
        count += 2 * linear(width, a.latent);
        width = a.latent;
        for layer in &a.decoder {
            count += gat_conv(width, *layer) + 2 * layer.out();
            width = layer.out();
        }
        count += gat_conv(width, GatLayer::new(1, 10)) + linear(a.latent, ids);
        let h = a.neighbourhood_hidden;
        count += linear(a.latent, h) + linear(h, h) + linear(h, ids);
        assert_eq!(count, vgae, "VGAE {size:?} {ids}");

        let g = GatArch::of_size(size);
        let layer = GatLayer::new(g.heads, g.hidden);
        let pooled = g.layers * layer.out();
        let count = ids * g.id_embedding
            + gat_conv(g.id_embedding + 10, layer)
            + (g.layers - 1) * gat_conv(layer.out(), layer)
            + (g.fc_layers - 1) * linear(pooled, pooled)
            + linear(pooled, 2);
        assert_eq!(count, gat, "GAT {size:?} {ids}");
    }
    for (size, published) in [(Large, 689_493), (Small, 32_341)] {
        let d = DqnArch::of_size(size);
        let count = linear(15, d.hidden)
            + (d.layers - 1) * linear(d.hidden, d.hidden)
            + d.layers * 2 * d.hidden
            + linear(d.hidden, d.actions);
        assert_eq!(count, published);
    }
}
