use super::*;

/// Message `step` of an id that sends every 10 ms, its second byte counting.
fn frame(step: u32, id: u32) -> Frame {
    let payload = [7, step as u8, 0, 0, 0, 0, 0, 0];
    Frame { timestamp_s: f64::from(step) * 0.010, id, payload, len: 4, label: 0 }
}

/// Profile of a car with the ids 0 (10 ms), 1 (40 ms) and 2 (once), and the time of its next message.
fn profile() -> (VehicleProfile, f64) {
    let mut frames = Vec::new();
    for step in 0..200 {
        frames.push(frame(step, 0));
        if step % 4 == 0 {
            frames.push(frame(step, 1));
        }
        if step == 50 {
            frames.push(frame(step, 2));
        }
    }
    let mut profile = VehicleProfile::learn(frames.iter().copied(), |id| id);
    for frame in &frames {
        let mark = profile.mark(frame.id, frame);
        assert!(mark.lateness.abs() < 0.01 && mark.jump == 0.0 && !mark.odd_len, "{mark:?}");
    }
    (profile, 2.0)
}

#[test]
fn periods_become_roles_and_unheard_ids_strangers() {
    let (profile, _) = profile();
    // 8 to 16 ms, 32 to 64 ms, and one message in two seconds.
    assert_eq!([0, 1, 2, 3].map(|dense| profile.role(dense)), [3, 5, 10, STRANGER]);
    assert!((profile.period_s(0).unwrap() - 0.010).abs() < 1e-9);
    assert_eq!(profile.period_s(3), None);
}

#[test]
fn a_burst_that_begins_late_in_the_warm_up_is_not_the_vehicles() {
    let mut frames: Vec<Frame> = (0..200).map(|step| frame(step, 0)).collect();
    frames.extend((0..7).map(|step| frame(190 + step, 1)));
    frames.extend((0..8).map(|step| frame(190 + step, 2)));
    frames.sort_by(|a, b| a.timestamp_s.total_cmp(&b.timestamp_s));
    let profile = VehicleProfile::learn(frames.into_iter(), |id| id);
    assert_eq!([0, 1, 2].map(|dense| profile.period_s(dense).is_some()), [true, true, false]);
}

#[test]
fn a_flood_within_the_warm_up_is_not_the_vehicles() {
    let mut frames: Vec<Frame> = (0..200).map(|step| frame(step, 0)).collect();
    let flood = |step: u32| Frame { timestamp_s: 0.1 + f64::from(step) * 0.000_5, ..frame(0, 1) };
    frames.extend((0..2_000).map(flood));
    frames.sort_by(|a, b| a.timestamp_s.total_cmp(&b.timestamp_s));
    let profile = VehicleProfile::learn(frames.into_iter(), |id| id);
    assert_eq!((profile.role(0), profile.role(1)), (3, STRANGER));
}

#[test]
fn an_injected_message_is_early_and_the_one_behind_it_too() {
    let (mut profile, now) = profile();
    let at = |after: f64, step: u32| Frame { timestamp_s: now + after, ..frame(step, 0) };
    let marks = [at(0.0, 200), at(0.0025, 200), at(0.010, 201), at(0.030, 202)]
        .map(|frame| profile.mark(0, &frame).lateness);
    for (mark, expected) in marks.iter().zip([0.0, -2.0, 0.75f32.log2(), 1.0]) {
        assert!((mark - expected).abs() < 1e-3, "{marks:?}");
    }
    let backwards = profile.mark(0, &at(-5.0, 203));
    assert_eq!(backwards.lateness, -LATENESS_LIMIT);
}

#[test]
fn bytes_that_move_too_far_are_told_and_learned_only_on_time() {
    let (mut profile, now) = profile();
    let strange = |at: f64| Frame { timestamp_s: at, payload: [7, 100, 90, 0, 0, 0, 0, 0], ..frame(0, 0) };
    let usual = |at: f64| Frame { timestamp_s: at, payload: [7, 100, 0, 0, 0, 0, 0, 0], ..frame(0, 0) };
    // Injected: the counter's byte and another one, of four; there and back again, never learned.
    let mut first = profile.mark(0, &strange(now + 0.001));
    assert_eq!(first.jump, 0.5);
    for step in 1..20 {
        let at = now + 0.003 * f64::from(step);
        first = profile.mark(0, &if step % 2 == 0 { strange(at) } else { usual(at) });
    }
    assert_eq!(first.jump, 0.25);
    // On time the same becomes usual.
    let jumps: Vec<f32> = (1..60)
        .map(|step| {
            let at = now + 1.0 + 0.010 * f64::from(step);
            profile.mark(0, &if step % 2 == 0 { strange(at) } else { usual(at) }).jump
        })
        .collect();
    assert!(jumps[1] > 0.0);
    assert_eq!(jumps[jumps.len() - 1], 0.0);
}

#[test]
fn counters_wrap_and_other_lengths_are_told() {
    assert_eq!((distance(255, 1), distance(1, 255), distance(0, 128), distance(9, 9)), (2, 2, 128, 0));
    let (mut profile, now) = profile();
    let mark = profile.mark(0, &Frame { timestamp_s: now, len: 8, ..frame(200, 0) });
    assert!(mark.odd_len);
    // Heard once, half a second after the start: its period is a second and a half or more.
    let at = |at: f64| Frame { timestamp_s: at, ..frame(0, 2) };
    assert_eq!(profile.mark(2, &at(9.0)).lateness, 0.0);
    assert!((profile.mark(2, &at(9.0 + 1.49 / 4.0)).lateness + 2.0).abs() < 0.01);
    // A stranger has no usual length, time or payload.
    assert_eq!(profile.mark(9, &frame(200, 9)), Mark::default());
    assert_eq!(profile.mark(9, &frame(201, 9)), Mark::default());
}

#[test]
fn silent_ids_are_overdue() {
    let (mut profile, now) = profile();
    assert_eq!(profile.overdue(now, 3.0), 0.0);
    // Id 1 goes on, id 0 is silent for 5 of its periods; id 2 may.
    profile.mark(1, &Frame { timestamp_s: now + 0.05, ..frame(0, 1) });
    assert!((profile.overdue(now + 0.05, 3.0) - 1.0 / 3.0).abs() < 1e-6);
    assert_eq!(VehicleProfile::default().overdue(1.0, 3.0), 0.0);
}

#[test]
fn spoofed_messages_take_ids_of_the_vehicle_and_some_are_left_out() {
    let (profile, now) = profile();
    let injected = |step: u32| Frame {
        timestamp_s: now + f64::from(step) * 0.001,
        id: 99,
        payload: [1; 8],
        len: 8,
        label: 1,
    };
    let run = |copy: u32| -> Vec<Frame> {
        let mut variation = Variation::new(5, copy);
        (0..20_000)
            .filter_map(|step| variation.rewrite(injected(step), &profile, |dense| dense + 10))
            .collect()
    };
    let frames = run(0);
    assert!(frames.iter().all(|f| (10..=12).contains(&f.id) && f.len == 4 && f.label == 1));
    assert!(frames.len() > 500 && frames.len() < 15_000, "{}", frames.len());
    assert_eq!(run(0), frames);
    assert_ne!(run(1), frames);
    // Ten episodes of two seconds: more than one id, and payloads both injected and replayed.
    assert!(frames.iter().any(|f| f.id != frames[0].id));
    assert!(frames.iter().any(|f| f.payload[0] == 1) && frames.iter().any(|f| f.payload[0] == 7));
    // What is not injected stays as it is.
    let mut variation = Variation::new(5, 0);
    assert_eq!(variation.rewrite(frame(3, 1), &profile, |dense| dense), Some(frame(3, 1)));
}

#[test]
fn only_slow_ids_are_hidden() {
    let mut hidden = 0;
    for copy in 0..40 {
        let (mut profile, _) = profile();
        Variation::new(1, copy).hide_slow_ids(&mut profile);
        assert!(profile.period_s(0).is_some() && profile.period_s(1).is_some());
        hidden += u32::from(profile.period_s(2).is_none());
    }
    assert!((4..=22).contains(&hidden), "{hidden} of 40");
}

#[test]
fn slow_ids_send_on_events_and_fast_ones_do_not() {
    let (mut profile, now) = profile();
    // An id of 100 ms.
    profile.ids[1].period_s = 0.1;
    let mut added = Vec::new();
    for copy in 0..8 {
        let mut variation = Variation::new(3, copy);
        for step in 0..1_000 {
            let frame = Frame { timestamp_s: now + f64::from(step) * 0.01, ..frame(step, 0) };
            added.extend_from_slice(variation.before(&frame, &profile));
        }
    }
    assert!(added.len() > 40, "{}", added.len());
    assert!(added.iter().all(|(dense, frame)| *dense == 1 && frame.label == ADDED && frame.len == 4));
    // Repeats come within half a period.
    let quick = added.windows(2).filter(|pair| (pair[1].1.timestamp_s - pair[0].1.timestamp_s).abs() < 0.051);
    assert!(quick.count() > 10);
}
