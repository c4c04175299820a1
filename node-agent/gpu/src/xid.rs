//! Xid events: what the driver says of a card in trouble, as it happens. They are waited for on a thread of
//! their own; what was heard stays a fault of the card until the agent is started anew, since only a person can
//! say that it was mended.

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{EventSet, Nvml};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Faults of a program, not of the card: a kernel's bad access, a program that was ended.
const OF_PROGRAMS: &[u64] = &[13, 31, 43, 45, 68, 109];
const WAIT_MS: u32 = 2_000;
/// After a driver that could not be spoken to.
const PAUSE: Duration = Duration::from_secs(30);

/// By UUID, the first serious event of each card.
type Heard = Mutex<BTreeMap<String, u64>>;

pub struct Xids(Arc<Heard>);

impl Xids {
    /// Starts listening, until this is dropped. Cards that know no such events are left out.
    pub fn listen(library: Option<OsString>) -> Xids {
        let heard = Arc::<Heard>::default();
        let weak = Arc::downgrade(&heard);
        let started = std::thread::Builder::new().name("xid".to_owned()).spawn(move || {
            while weak.strong_count() > 0 {
                // A driver in trouble shows in the looks at the cards as well.
                let _ = listen(library.as_ref(), &weak);
                std::thread::sleep(PAUSE);
            }
        });
        drop(started);
        Xids(heard)
    }

    /// What is wrong with a card, if anything was heard of it.
    pub fn fault_of(&self, uuid: &str) -> Option<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(uuid).map(|xid| {
            format!("the driver told Xid {xid} (see `dmesg | grep -i xid`); restart the agent when the card is mended")
        })
    }
}

fn listen(library: Option<&OsString>, heard: &Weak<Heard>) -> Result<(), NvmlError> {
    let nvml = match library {
        Some(path) => Nvml::builder().lib_path(path).init()?,
        None => Nvml::init()?,
    };
    let mut cards: Vec<u32> = (0..nvml.device_count()?).collect();
    let set = loop {
        match registered(&nvml, &cards)? {
            Ok(set) => break set,
            Err(unknown_to_it) => cards.retain(|index| *index != unknown_to_it),
        }
    };
    while heard.strong_count() > 0 {
        let event = match set.wait(WAIT_MS) {
            Ok(event) => event,
            Err(NvmlError::Timeout) => continue,
            Err(error) => return Err(error),
        };
        let Some(XidError::Value(xid)) = event.event_data else { continue };
        let (Some(heard), Ok(uuid)) = (heard.upgrade(), event.device.uuid()) else { continue };
        if !OF_PROGRAMS.contains(&xid) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).entry(uuid).or_insert(xid);
        }
    }
    Ok(())
}

/// A set with all these cards, or the first of them that knows no such events (which costs the whole set).
fn registered<'nvml>(nvml: &'nvml Nvml, cards: &[u32]) -> Result<Result<EventSet<'nvml>, u32>, NvmlError> {
    let mut set = nvml.create_event_set()?;
    for index in cards {
        let Ok(card) = nvml.device_by_index(*index) else { return Ok(Err(*index)) };
        match card.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
            Ok(with_it) => set = with_it,
            Err(_) => return Ok(Err(*index)),
        }
    }
    Ok(Ok(set))
}
