//! Two agents of one name would take each other's slots for their own of an earlier life. So a starting agent asks
//! whether its name is taken, and one that hears another's beats under its name later goes, if it has the larger
//! incarnation (drawn by chance at start): exactly one of two stays, which of them does not matter.

use bus::{BusError, Headers, SharedBus};
use common::ids::{Incarnation, NodeId};
use common::messages::NodeBeat;
use common::{subjects, wire};
use std::time::Duration;

/// Another life under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival(pub Incarnation);

/// Asks who bears `node` now. Without anybody the answer comes at once; one that is connected and says nothing for
/// `patience` (two beats) is taken for dead.
pub async fn find(bus: &SharedBus, node: &NodeId, patience: Duration) -> Result<Option<Rival>, BusError> {
    let asked = bus.request(&subjects::agent_of(node), Headers::new(), "who".into(), patience).await;
    match asked {
        Ok(answer) => Ok(wire::decode::<NodeBeat>(&answer.payload).ok().map(|beat| Rival(beat.incarnation))),
        Err(BusError::NoResponders { .. }) => Ok(None),
        Err(BusError::TimedOut { .. }) => {
            tracing::warn!(%node, "an agent of this name is connected and says nothing: taken for dead");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Listens to the beats under our own name.
#[derive(Debug)]
pub struct Watch {
    ours: Incarnation,
    other: Option<(Incarnation, u64)>,
}

impl Watch {
    pub fn new(ours: Incarnation) -> Watch {
        Watch { ours, other: None }
    }

    /// Takes in a beat; `Some` when we are the one to go. One beat alone may be the last word of the life before.
    pub fn hear(&mut self, beat: &NodeBeat) -> Option<Rival> {
        if beat.incarnation == self.ours {
            return None;
        }
        let before = self.other.replace((beat.incarnation, beat.seq));
        let lives = before.is_some_and(|(life, seq)| life == beat.incarnation && seq < beat.seq);
        (lives && self.ours > beat.incarnation).then_some(Rival(beat.incarnation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(life: u64, seq: u64) -> NodeBeat {
        NodeBeat {
            node: NodeId::new("n").unwrap(),
            incarnation: Incarnation(life),
            seq,
            agent_version: String::new(),
            closed_because: None,
            devices: Vec::new(),
            running: Vec::new(),
            ceilings: Vec::new(),
        }
    }

    #[test]
    fn exactly_one_of_two_goes_and_a_last_word_moves_nobody() {
        let (mut younger, mut older) = (Watch::new(Incarnation(9)), Watch::new(Incarnation(4)));
        assert_eq!(younger.hear(&beat(4, 17)), None, "perhaps its last");
        assert_eq!(younger.hear(&beat(9, 1)), None, "ours");
        assert_eq!(younger.hear(&beat(4, 17)), None, "the same once more");
        assert_eq!(younger.hear(&beat(4, 18)), Some(Rival(Incarnation(4))));
        assert_eq!((older.hear(&beat(9, 1)), older.hear(&beat(9, 2))), (None, None));
    }

    #[tokio::test]
    async fn a_name_that_answers_is_taken() {
        use futures::StreamExt;
        let bus: SharedBus = std::sync::Arc::new(bus::MemoryBus::new());
        let node = NodeId::new("n").unwrap();
        let patience = Duration::from_millis(200);
        assert_eq!(find(&bus, &node, patience).await.unwrap(), None);
        let mut asked = bus.subscribe(&subjects::agent_of(&node)).await.unwrap();
        assert_eq!(find(&bus, &node, patience).await.unwrap(), None, "nobody answers");
        let answers = async {
            let _unanswered = asked.next().await;
            let question = asked.next().await.unwrap();
            let answer = wire::encode(&beat(7, 1)).unwrap();
            bus.respond(&question, Headers::new(), answer.into()).await.unwrap();
        };
        let (found, ()) = tokio::join!(find(&bus, &node, Duration::from_secs(10)), answers);
        assert_eq!(found.unwrap(), Some(Rival(Incarnation(7))));
    }
}
