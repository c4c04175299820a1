//! Profiles of cards, memory asks, and the tuning an attempt gets on a device.

use super::*;
use crate::config::{CPU_PROFILE, ModelSize, PlacementSpec};
use crate::ids::Phase;
use crate::trainer_protocol::{Device, Precision};
use crate::units::Mib;

#[test]
fn every_card_gets_its_profile() {
    let config = Config::built_in();
    for (card, total_mib, profile) in [
        ("NVIDIA A100-SXM4-40GB", 40_960, "a100_40gb"),
        ("NVIDIA A100 80GB PCIe", 81_920, "a100_40gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4_864, "any_small"),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20_096, "any_20gb"),
        ("NVIDIA GeForce RTX 3090", 24_576, "rtx_3090_4090"),
        ("NVIDIA GeForce RTX 3090 Ti", 24_564, "rtx_3090_4090"),
        ("nvidia geforce rtx 4090", 24_564, "rtx_3090_4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16_376, "any_10gb"),
        ("NVIDIA GeForce RTX 3080", 10_240, "rtx_3080"),
        ("NVIDIA GeForce RTX 3080 Ti", 12_288, "rtx_3080"),
        ("NVIDIA H100 80GB HBM3", 81_559, "h100"),
        ("NVIDIA H200", 143_771, "h200"),
        ("NVIDIA GH200 480GB", 97_871, "h200"),
        ("NVIDIA L4", 23_034, "l4"),
        ("NVIDIA L40S", 46_068, "any_30gb"),
        ("Tesla T4", 15_360, "t4"),
        ("Tesla V100-SXM2-16GB", 16_384, "any_10gb"),
        ("NVIDIA RTX A2000", 6_138, "any_small"),
        ("", 0, "any_small"),
    ] {
        assert_eq!(config.profiles.profile_for(card, Mib(total_mib)).0, profile, "{card}");
    }
}

#[test]
fn the_tiers_of_the_ancestor_are_kept() {
    let config = Config::built_in();
    for (profile, micro_batch, workers, buffer) in [
        ("a100_40gb", 8192, 24, 500_000),
        ("rtx_3090_4090", 4096, 16, 300_000),
        ("rtx_3080", 2048, 12, 200_000),
    ] {
        let p = &config.profiles.0[profile];
        assert_eq!((p.micro_batch, p.workers, p.buffer_size), (micro_batch, workers, buffer), "{profile}");
        assert_eq!((p.mixed_precision, p.cap_permille()), (Precision::Bf16, 900), "{profile}");
    }
}

#[test]
fn a_profile_of_ones_own_is_found_and_more_words_win() {
    let config = base("gpu_profiles: {mine: {name_contains: [RTX 3080 Ti], micro_batch: 7}}").unwrap();
    let (name, profile) = config.profiles.profile_for("NVIDIA GeForce RTX 3080 Ti", Mib(12_288));
    assert_eq!((name, profile.micro_batch, profile.max_per_gpu), ("mine", 7, 1));
    assert_eq!(config.profiles.profile_for("NVIDIA GeForce RTX 3080", Mib(10_240)).0, "rtx_3080");
}

#[test]
fn every_cap_in_thousandths_is_exact() {
    for permille in 1..=1000u32 {
        let profile =
            crate::config::GpuProfile { cap_fraction: f64::from(permille) / 1000.0, ..Default::default() };
        assert_eq!(profile.cap_permille(), permille);
    }
}

#[test]
fn no_phase_asks_a_card_for_more_than_may_be_reserved() {
    let config = Config::built_in();
    for (name, profile) in &config.profiles.0 {
        // Cards below 4 GiB and machines below 4 GiB are not meant to train.
        let smallest = if profile.min_mib.0 < 4096 { Mib(4096) } else { profile.min_mib };
        let cap = smallest.permille(profile.cap_permille());
        for (phase, size) in
            Phase::ALL.into_iter().flat_map(|p| [(p, ModelSize::Large), (p, ModelSize::Small)])
        {
            let need = config.pipeline.phases.get(phase).memory_on(size, name);
            assert!(need <= cap, "{size:?} {phase} asks {name} for {need} of {cap}");
        }
    }
    let set = "set_01".parse().unwrap();
    let ask = |phase, card| config.memory_ask(&set, phase, card);
    assert_eq!(ask(Phase::Fusion, Some(("NVIDIA L4", Mib(23_034)))), (Mib(10_240), "l4"));
    assert_eq!(ask(Phase::Fusion, Some(("NVIDIA GeForce RTX 3080", Mib(10_240)))), (Mib(8192), "rtx_3080"));
    assert_eq!(ask(Phase::Teacher, None), (Mib(2048), CPU_PROFILE));
}

#[test]
fn memory_is_asked_by_phase_size_and_card() {
    let ask = |settings: &[&str]| {
        let config = flags(settings).unwrap();
        config.memory_ask(&"set_01".parse().unwrap(), Phase::Student, Some(("NVIDIA L4", Mib(23_034)))).0
    };
    assert_eq!((ask(&[]), ask(&["student.size=large"])), (Mib(6144), Mib(8192)));
    let mine = ["student.size=large", "pipeline.phases.student.memory_mib.large.l4=9000"];
    assert_eq!((ask(&mine), ask(&mine[1..])), (Mib(9000), Mib(6144)));
}

#[test]
fn a_measured_peak_gets_its_margin() {
    let spec = PlacementSpec::default();
    assert_eq!((spec.with_margin(Mib(4001)), spec.with_margin(Mib(100))), (Mib(4602), Mib(356)));
}

#[test]
fn an_attempt_gets_what_is_asked_or_what_the_device_can() {
    let config = Config::built_in();
    let (_, t4) = config.profiles.profile_for("Tesla T4", Mib(15_360));
    let on_t4 = config.tuning(Phase::Teacher).on_device(Device::Cuda(1), t4, 6, Mib(8192));
    assert_eq!(
        (on_t4.precision, on_t4.micro_batch, on_t4.workers, on_t4.threads),
        (Precision::Fp16, 2048, 6, 4)
    );
    assert_eq!(on_t4.memory_budget_mib, Mib(8192));
    let (name, cpu) = config.profiles.cpu();
    assert_eq!(name, CPU_PROFILE);
    let asked = flags(&["micro_batch=32", "threads=1", "mixed_precision=bf16"]).unwrap();
    let on_cpu = asked.tuning(Phase::Teacher).on_device(Device::Cpu, cpu, 2, Mib(2048));
    assert_eq!(
        (on_cpu.precision, on_cpu.micro_batch, on_cpu.workers, on_cpu.threads),
        (Precision::Fp32, 32, 2, 1)
    );
    let on_t4 = asked.tuning(Phase::Teacher).on_device(Device::Cuda(0), t4, 6, Mib(8192));
    assert_eq!(on_t4.precision, Precision::Bf16);
}
