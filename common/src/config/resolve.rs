//! From settings, where a special one may fall back to a general one, to what each phase gets.

use super::semantic::*;
use super::settings::{
    FusionSettings, GatSettings, StudentSettings, TeacherSettings, TrainingSettings, TuningSettings,
    VgaeSettings,
};
use super::tuning::Tuning;
use crate::ids::Phase;

impl TrainingSettings {
    /// Everything that can change the result of a phase.
    pub fn semantic(&self, phase: Phase) -> PhaseSemantic {
        let data = self.data_semantic();
        match phase {
            Phase::Teacher => PhaseSemantic::Teacher { data, teacher: self.teacher_semantic() },
            Phase::Student => PhaseSemantic::Student { data, student: self.student_semantic() },
            Phase::Fusion => PhaseSemantic::Fusion { data, fusion: self.fusion_semantic() },
        }
    }

    /// Where and how fast a phase runs.
    pub fn tuning(&self, phase: Phase) -> Tuning {
        let own = match phase {
            Phase::Teacher => &self.teacher.tuning,
            Phase::Student => &self.student.tuning,
            Phase::Fusion => &self.fusion.tuning,
        };
        let TuningSettings {
            device,
            mixed_precision,
            micro_batch,
            workers,
            threads,
            checkpoint_every_epochs,
            checkpoint_every_minutes,
            bad_lines_per_file_max,
        } = own;
        Tuning {
            device: device.unwrap_or(self.device),
            mixed_precision: mixed_precision.unwrap_or(self.mixed_precision),
            micro_batch: micro_batch.or(self.micro_batch),
            workers: workers.or(self.workers),
            threads: threads.or(self.threads),
            checkpoint_every_epochs: checkpoint_every_epochs.unwrap_or(self.checkpoint_every_epochs),
            checkpoint_every_minutes: checkpoint_every_minutes.unwrap_or(self.checkpoint_every_minutes),
            bad_lines_per_file_max: bad_lines_per_file_max.unwrap_or(self.bad_lines_per_file_max),
        }
    }

    fn data_semantic(&self) -> DataSemantic {
        let split = &self.data.split;
        DataSemantic {
            window: self.data.window,
            stride: self.data.stride,
            chunk_rule: self.data.chunk_rule,
            encoding: self.data.encoding,
            profile_messages: self.data.profile_messages,
            varied_copies: self.data.varied_copies,
            vocabulary: self.data.vocabulary,
            split: SplitSemantic {
                kind: split.kind,
                val_fraction: split.val_fraction,
                embargo_windows: split.embargo_windows,
                seed: split.seed.unwrap_or(self.seed),
            },
        }
    }

    fn teacher_semantic(&self) -> TeacherSemantic {
        let TeacherSettings { size, seed, vgae, gat, tuning: _ } = &self.teacher;
        TeacherSemantic {
            seed: seed.unwrap_or(self.seed),
            vgae: self.vgae_semantic(vgae, *size),
            gat: self.gat_semantic(gat, *size),
        }
    }

    fn student_semantic(&self) -> StudentSemantic {
        let StudentSettings { size, seed, vgae, gat, kd, tuning: _ } = &self.student;
        StudentSemantic {
            seed: seed.unwrap_or(self.seed),
            vgae: self.vgae_semantic(vgae, *size),
            gat: self.gat_semantic(gat, *size),
            kd: kd.clone(),
        }
    }

    fn vgae_semantic(&self, own: &VgaeSettings, size: ModelSize) -> VgaeSemantic {
        VgaeSemantic {
            arch: self.models.vgae.get(size).clone(),
            fit: FitSemantic {
                lr: own.lr.unwrap_or(self.lr),
                batch_size: own.batch_size.unwrap_or(self.batch_size),
                epochs: own.epochs.unwrap_or(self.epochs),
                patience: own.patience.unwrap_or(self.patience),
                weight_decay: own.weight_decay.unwrap_or(self.weight_decay),
                grad_clip: own.grad_clip.unwrap_or(self.grad_clip),
                schedule: own.schedule.unwrap_or(self.schedule),
                diverged_lr_factor: own.diverged_lr_factor.unwrap_or(self.diverged_lr_factor),
            },
            loss: own.loss.clone(),
            train_on: own.train_on,
            threshold: own.threshold.clone(),
        }
    }

    fn gat_semantic(&self, own: &GatSettings, size: ModelSize) -> GatSemantic {
        GatSemantic {
            arch: self.models.gat.get(size).clone(),
            fit: FitSemantic {
                lr: own.lr.unwrap_or(self.lr),
                batch_size: own.batch_size.unwrap_or(self.batch_size),
                epochs: own.epochs.unwrap_or(self.epochs),
                patience: own.patience.unwrap_or(self.patience),
                weight_decay: own.weight_decay.unwrap_or(self.weight_decay),
                grad_clip: own.grad_clip.unwrap_or(self.grad_clip),
                schedule: own.schedule.unwrap_or(self.schedule),
                diverged_lr_factor: own.diverged_lr_factor.unwrap_or(self.diverged_lr_factor),
            },
            imbalance: own.imbalance,
            threshold: own.threshold.clone(),
        }
    }

    fn fusion_semantic(&self) -> FusionSemantic {
        let own: &FusionSettings = &self.fusion;
        FusionSemantic {
            seed: own.seed.unwrap_or(self.seed),
            states_from: own.states_from,
            arch: self.models.dqn.get(own.size).clone(),
            lr: own.lr.unwrap_or(self.lr),
            weight_decay: own.weight_decay,
            grad_clip: own.grad_clip.unwrap_or(self.grad_clip),
            episodes: own.episodes,
            samples_per_episode: own.samples_per_episode,
            gradient_steps_per_episode: own.gradient_steps_per_episode,
            batch_size: own.batch_size,
            gamma: own.gamma,
            epsilon_start: own.epsilon_start,
            epsilon_end: own.epsilon_end,
            epsilon_decay: own.epsilon_decay,
            replay_size: own.replay_size,
            target_copy_steps: own.target_copy_steps,
            validate_every_episodes: own.validate_every_episodes,
            patience: own.patience,
            train_states_max: own.train_states_max,
            val_states_max: own.val_states_max,
            threshold: own.threshold.clone(),
        }
    }

    /// The written key that decided a resolved one (`teacher.gat.lr` may come from `lr`), both
    /// without their section.
    pub fn deciding_key(&self, key: &str) -> String {
        // Settings are plain structs of numbers and names, which JSON can always hold.
        let tree = serde_json::to_value(self).expect("settings serialise to JSON");
        let written = |key: &str| key.split('.').try_fold(&tree, |at, part| at.get(part));
        let (head, last) = key.rsplit_once('.').unwrap_or(("", key));
        if let Some((owner, inner)) = key.split_once(".arch.") {
            let (phase, model) = owner.split_once('.').unwrap_or((owner, "dqn"));
            let size = written(&format!("{phase}.size")).and_then(|v| v.as_str()).unwrap_or_default();
            // A list is one leaf: `encoder.0.heads` was written as `encoder`.
            let leaf = inner.split('.').next().unwrap_or(inner);
            return format!("models.{model}.{size}.{leaf}");
        }
        match written(key) {
            Some(value) if !value.is_null() => key.to_owned(),
            // Tuning is grouped below its phase, as `teacher.tuning.workers`; both fall back to the top.
            _ if head.is_empty() => key.to_owned(),
            _ => last.to_owned(),
        }
    }
}
