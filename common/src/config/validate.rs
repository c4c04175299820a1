//! Values of the right type that still can not be used.

use super::datasets::DatasetSpec;
use super::pipeline::{ANY_PROFILE, AgentSpec, ClusterSpec, PipelineSpec};
use super::profiles::GpuProfiles;
use super::semantic::*;
use super::tuning::Tuning;
use crate::ids::{DatasetId, Phase};
use std::collections::BTreeMap;
use std::fmt::Display;

/// Local node indices of a graph are 16 bits wide, and a window has at most one node more than messages.
const WINDOW_MAX: u32 = 65_000;
const PROFILE_MESSAGES_MAX: u32 = 1_000_000;
const VARIED_COPIES_MAX: u32 = 100;

/// Collects what is wrong: key (as people write it) and message.
#[derive(Default)]
pub struct Findings(pub Vec<(String, String)>);

impl Findings {
    fn need(&mut self, ok: bool, key: impl Into<String>, value: impl Display, rule: &str) {
        if !ok {
            self.0.push((key.into(), format!("{value} can not be used, it must be {rule}")));
        }
    }

    fn at_least(&mut self, min: u32, key: impl Into<String>, value: u32) {
        self.need(value >= min, key, value, &format!("at least {min}"));
    }

    fn positive(&mut self, key: impl Into<String>, value: f64) {
        self.need(value > 0.0, key, value, "more than 0");
    }

    fn not_negative(&mut self, key: impl Into<String>, value: f64) {
        self.need(value >= 0.0, key, value, "0 or more");
    }

    fn share(&mut self, key: impl Into<String>, value: f64) {
        self.need((0.0..=1.0).contains(&value), key, value, "from 0 to 1");
    }

    fn dropout(&mut self, key: impl Into<String>, value: f64) {
        self.need((0.0..1.0).contains(&value), key, value, "from 0 to below 1");
    }
}

pub fn semantic(of: &PhaseSemantic, out: &mut Findings) {
    data(of.data(), out);
    match of {
        PhaseSemantic::Teacher { teacher, .. } => {
            vgae("teacher.vgae", &teacher.vgae, out);
            gat("teacher.gat", &teacher.gat, out);
        }
        PhaseSemantic::Student { student, .. } => {
            vgae("student.vgae", &student.vgae, out);
            gat("student.gat", &student.gat, out);
            let kd = &student.kd;
            out.positive("student.kd.temperature", kd.temperature);
            out.share("student.kd.gat_alpha", kd.gat_alpha);
            out.share("student.kd.vgae_alpha", kd.vgae_alpha);
            out.not_negative("student.kd.latent", kd.latent);
            out.not_negative("student.kd.reconstruction", kd.reconstruction);
        }
        PhaseSemantic::Fusion { fusion: f, .. } => fusion(f, out),
    }
}

fn data(d: &DataSemantic, out: &mut Findings) {
    let rule = format!("from 2 to {WINDOW_MAX}");
    out.need((2..=WINDOW_MAX).contains(&d.window), "data.window", d.window, &rule);
    out.at_least(1, "data.stride", d.stride);
    out.need(
        (1..=PROFILE_MESSAGES_MAX).contains(&d.profile_messages),
        "data.profile_messages",
        d.profile_messages,
        &format!("from 1 to {PROFILE_MESSAGES_MAX}: they are held in memory"),
    );
    out.need(
        d.varied_copies <= VARIED_COPIES_MAX,
        "data.varied_copies",
        d.varied_copies,
        &format!("at most {VARIED_COPIES_MAX}"),
    );
    let val = d.split.val_fraction;
    out.need(val > 0.0 && val <= 0.5, "data.split.val_fraction", val, "more than 0 and at most 0.5");
    overlap(d, out);
}

/// Overlapping windows share messages, so a split must not put neighbours on two sides.
fn overlap(d: &DataSemantic, out: &mut Findings) {
    if d.stride == 0 || d.stride >= d.window {
        return;
    }
    let (window, stride, embargo) = (d.window, d.stride, d.split.embargo_windows);
    // Windows i and j share a message where |i - j| * stride < window.
    let least = window.div_ceil(stride) - 1;
    match d.split.kind {
        SplitKind::RandomDedup => out.0.push((
            "data.split.kind".to_owned(),
            format!(
                "random_dedup can not be used with overlapping windows (stride {stride} below window {window}): \
                 training and validation would share messages; write contiguous with embargo_windows {least} or \
                 more, or a stride of at least {window}"
            ),
        )),
        SplitKind::Contiguous if embargo < least => out.0.push((
            "data.split.embargo_windows".to_owned(),
            format!(
                "{embargo} can not be used, it must be at least {least}: so many windows share messages with the \
                 one before them (window {window}, stride {stride})"
            ),
        )),
        SplitKind::Contiguous => {}
    }
}

fn fit(key: &str, f: &FitSemantic, out: &mut Findings) {
    out.need(f.lr > 0.0 && f.lr <= 1.0, format!("{key}.lr"), f.lr, "more than 0 and at most 1");
    out.at_least(1, format!("{key}.batch_size"), f.batch_size);
    out.at_least(1, format!("{key}.epochs"), f.epochs);
    out.not_negative(format!("{key}.weight_decay"), f.weight_decay);
    out.not_negative(format!("{key}.grad_clip"), f.grad_clip);
    let factor = f.diverged_lr_factor;
    let key = format!("{key}.diverged_lr_factor");
    out.need((0.0..1.0).contains(&factor), key, factor, "from 0 to below 1");
}

fn threshold(key: &str, t: &ThresholdSemantic, out: &mut Findings) {
    out.share(format!("{key}.threshold.target_fpr"), t.target_fpr);
}

fn vgae(key: &str, v: &VgaeSemantic, out: &mut Findings) {
    fit(key, &v.fit, out);
    threshold(key, &v.threshold, out);
    let loss = &v.loss;
    for (name, weight) in
        [("feature", loss.feature), ("id", loss.id), ("neighbourhood", loss.neighbourhood), ("kl", loss.kl)]
    {
        out.not_negative(format!("{key}.loss.{name}"), weight);
    }
    let (key, arch) = (format!("{key}.arch"), &v.arch);
    out.at_least(1, format!("{key}.id_embedding"), arch.id_embedding);
    out.at_least(1, format!("{key}.latent"), arch.latent);
    out.at_least(1, format!("{key}.neighbourhood_hidden"), arch.neighbourhood_hidden);
    out.dropout(format!("{key}.dropout"), arch.dropout);
    for (name, layers) in [("encoder", &arch.encoder), ("decoder", &arch.decoder)] {
        let sound = !layers.is_empty() && layers.iter().all(|l| l.heads > 0 && l.width > 0);
        out.need(sound, format!("{key}.{name}"), "this", "a list of layers with heads and width above 0");
    }
}

fn gat(key: &str, g: &GatSemantic, out: &mut Findings) {
    fit(key, &g.fit, out);
    threshold(key, &g.threshold, out);
    let (key, arch) = (format!("{key}.arch"), &g.arch);
    out.at_least(1, format!("{key}.id_embedding"), arch.id_embedding);
    out.at_least(1, format!("{key}.layers"), arch.layers);
    out.at_least(1, format!("{key}.heads"), arch.heads);
    out.at_least(1, format!("{key}.hidden"), arch.hidden);
    out.at_least(1, format!("{key}.fc_layers"), arch.fc_layers);
    out.dropout(format!("{key}.dropout"), arch.dropout);
}

fn fusion(f: &FusionSemantic, out: &mut Findings) {
    out.need(f.lr > 0.0 && f.lr <= 1.0, "fusion.lr", f.lr, "more than 0 and at most 1");
    out.not_negative("fusion.weight_decay", f.weight_decay);
    out.not_negative("fusion.grad_clip", f.grad_clip);
    for (name, count) in [
        ("episodes", f.episodes),
        ("samples_per_episode", f.samples_per_episode),
        ("gradient_steps_per_episode", f.gradient_steps_per_episode),
        ("batch_size", f.batch_size),
        ("target_copy_steps", f.target_copy_steps),
        ("validate_every_episodes", f.validate_every_episodes),
        ("train_states_max", f.train_states_max),
        ("val_states_max", f.val_states_max),
    ] {
        out.at_least(1, format!("fusion.{name}"), count);
    }
    let fits = f.replay_size >= f.batch_size;
    out.need(fits, "fusion.replay_size", f.replay_size, "at least fusion.batch_size");
    out.need((0.0..1.0).contains(&f.gamma), "fusion.gamma", f.gamma, "from 0 to below 1");
    out.share("fusion.epsilon_start", f.epsilon_start);
    out.share("fusion.epsilon_end", f.epsilon_end);
    let falls = f.epsilon_end <= f.epsilon_start;
    out.need(falls, "fusion.epsilon_end", f.epsilon_end, "at most fusion.epsilon_start");
    let decay = f.epsilon_decay;
    out.need(decay > 0.0 && decay <= 1.0, "fusion.epsilon_decay", decay, "more than 0 and at most 1");
    threshold("fusion", &f.threshold, out);
    out.at_least(1, "fusion.arch.layers", f.arch.layers);
    out.at_least(1, "fusion.arch.hidden", f.arch.hidden);
    out.at_least(2, "fusion.arch.actions", f.arch.actions);
    out.dropout("fusion.arch.dropout", f.arch.dropout);
}

pub fn tuning(phase: Phase, t: &Tuning, out: &mut Findings) {
    let key = |name: &str| format!("{phase}.tuning.{name}");
    for (name, count) in [("micro_batch", t.micro_batch), ("workers", t.workers), ("threads", t.threads)] {
        if let Some(count) = count {
            out.at_least(1, key(name), count);
        }
    }
    out.at_least(1, key("checkpoint_every_epochs"), t.checkpoint_every_epochs);
}

pub fn profiles(of: &GpuProfiles, out: &mut Findings) {
    for (name, p) in &of.0 {
        let key = |field: &str| format!("gpu_profiles.{name}.{field}");
        out.at_least(1, key("micro_batch"), p.micro_batch);
        out.at_least(1, key("workers"), p.workers);
        out.at_least(1, key("buffer_size"), p.buffer_size);
        out.at_least(1, key("max_per_gpu"), p.max_per_gpu);
        let cap = p.cap_fraction;
        out.need(cap > 0.0 && cap <= 1.0, key("cap_fraction"), cap, "more than 0 and at most 1");
        let named = p.name_contains.iter().all(|word| !word.trim().is_empty());
        out.need(named, key("name_contains"), "an empty word", "a word of the card's name");
    }
}

pub fn datasets(of: &BTreeMap<String, DatasetSpec>, out: &mut Findings) {
    for name in of.keys() {
        if let Err(e) = DatasetId::new(name.as_str()) {
            out.0.push((format!("datasets.{name}"), e.to_string()));
        }
    }
}

pub fn pipeline(of: &PipelineSpec, general: &PhaseSemantic, known: &GpuProfiles, out: &mut Findings) {
    for phase in Phase::ALL {
        let spec = of.phases.get(phase);
        let key = |name: &str| format!("pipeline.phases.{phase}.{name}");
        // The phases are in the order they build on each other, so this also rules out circles.
        let earlier = spec.depends_on.iter().all(|parent| *parent < phase);
        let names: Vec<_> = spec.depends_on.iter().map(|p| p.as_str()).collect();
        out.need(earlier, key("depends_on"), names.join(", "), "earlier phases only");
        out.at_least(1, key("expected_minutes"), spec.expected_minutes);
        out.at_least(1, key("time_limit_minutes"), spec.time_limit_minutes);
        out.at_least(1, key("no_progress_minutes"), spec.no_progress_minutes);
        for (size, by_profile) in [("large", &spec.memory_mib.large), ("small", &spec.memory_mib.small)] {
            for (profile, need) in by_profile {
                let key = key(&format!("memory_mib.{size}.{profile}"));
                out.need(need.0 > 0, key.as_str(), need, "more than 0");
                if profile != ANY_PROFILE && !known.0.contains_key(profile) {
                    out.0.push((key, format!("there is no GPU profile {profile}")));
                }
            }
        }
    }
    let (key, margin) = ("pipeline.placement.margin_percent", of.placement.margin_percent);
    out.need(margin <= 1000, key, margin, "at most 1000");
    let (key, wait) = ("pipeline.placement.locality_wait_s", of.placement.locality_wait_s);
    out.need(wait <= 3600, key, wait, "at most 3600");
    let needs = |phase: Phase, parent| of.phases.get(phase).depends_on.contains(&parent);
    if !needs(Phase::Student, Phase::Teacher) {
        let message = "must name teacher: the student is distilled from it";
        out.0.push(("pipeline.phases.student.depends_on".into(), message.into()));
    }
    if let PhaseSemantic::Fusion { fusion, .. } = general {
        let source = match fusion.states_from {
            StatesFrom::Student => Phase::Student,
            StatesFrom::Teacher => Phase::Teacher,
        };
        if !needs(Phase::Fusion, source) {
            let message = format!("must name {source}: fusion.states_from says so");
            out.0.push(("pipeline.phases.fusion.depends_on".into(), message));
        }
    }
}

pub fn cluster(c: &ClusterSpec, out: &mut Findings) {
    // A NATS cluster that lost its leader acknowledges again after 4 to 8 seconds; a shorter lease
    // would end healthy attempts.
    out.at_least(15, "cluster.lease_s", c.lease_s);
    out.at_least(1, "cluster.beat_s", c.beat_s);
    let often = u64::from(c.beat_s) * 6 <= u64::from(c.lease_s);
    out.need(often, "cluster.beat_s", c.beat_s, "at most a sixth of cluster.lease_s");
    let late = c.unreachable_s > c.beat_s;
    out.need(late, "cluster.unreachable_s", c.unreachable_s, "more than cluster.beat_s");
    out.at_least(1, "cluster.offer_s", c.offer_s);
    out.at_least(1, "cluster.yield_grace_s", c.yield_grace_s);
    out.at_least(1, "cluster.fast_failure_s", c.fast_failure_s);
    out.at_least(1, "cluster.backoff_s", c.backoff_s);
    let grows = c.backoff_max_s >= c.backoff_s;
    out.need(grows, "cluster.backoff_max_s", c.backoff_max_s, "at least cluster.backoff_s");
}

pub fn agent(a: &AgentSpec, out: &mut Findings) {
    for (name, seconds) in
        [("store_refused_s", a.store_refused_s), ("upload_s", a.upload_s), ("fetch_s", a.fetch_s)]
    {
        out.at_least(1, format!("agent.{name}"), seconds);
    }
    out.at_least(5, "agent.start_s", a.start_s);
    let below = a.stall_percent < 100;
    out.need(below, "agent.stall_percent", a.stall_percent, "less than 100");
    for (name, size) in [
        ("prepared_cache_gib", a.prepared_cache_gib),
        ("parents_cache_gib", a.parents_cache_gib),
        ("process_logs_mib", a.process_logs_mib),
        ("kept_results_gib", a.kept_results_gib),
        ("attempt_log_mib", a.attempt_log_mib),
    ] {
        out.at_least(1, format!("agent.{name}"), size);
    }
}
