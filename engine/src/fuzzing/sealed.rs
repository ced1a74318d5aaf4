//! Sealed objects: the payload of each kind, and the envelope.

use super::is_canonical;
use crate::format::{
    ChecksumContext, Claim, Condemned, CopyTarget, Damage, Dropped, Header, Labels, PackNames, Record,
    RecordKey, ScrubLedger, SealedKind, StreamObject, Timestamp, open, seal,
};

/// What a sealed object begins with, besides its kind, its version and the length of its payload.
const MAGIC: &[u8] = b"TREERING";

/// The payload of a repository header.
pub fn header(payload: &[u8]) -> bool {
    look_at::<Header>(payload, |header| {
        let _ = header.check();
        show(header.created);
    })
}

/// The payload of a stream's object.
pub fn stream(payload: &[u8]) -> bool {
    look_at::<StreamObject>(payload, |stream| show(stream.created))
}

/// The payload of a revision record.
pub fn record(payload: &[u8]) -> bool {
    look_at::<Record>(payload, |record| {
        [record.time(), record.start, record.end].into_iter().for_each(show);
        let evidence = record.evidence.iter().flat_map(|evidence| [evidence.mtime, evidence.ctime]);
        evidence.for_each(show);
        // Where its name is one of a revision, its file is found by it.
        let key = record.key();
        assert!(RecordKey::parse(&key.to_string()).is_none_or(|parsed| parsed == key));
    })
}

/// The payload of a revision's labels.
pub fn labels(payload: &[u8]) -> bool {
    look_at::<Labels>(payload, |_| ())
}

/// The payload of the damage list.
pub fn damage(payload: &[u8]) -> bool {
    look_at::<Damage>(payload, |damage| {
        for object in &damage.objects {
            show(object.found);
            let _ = object.object_type();
        }
    })
}

/// The payload of a session or pin.
pub fn claim(payload: &[u8]) -> bool {
    look_at::<Claim>(payload, |claim| {
        show(claim.created);
        assert!(!claim.holder().is_empty());
    })
}

/// The payload of the remembered target of copies.
pub fn copy_target(payload: &[u8]) -> bool {
    look_at::<CopyTarget>(payload, |_| ())
}

/// The payload of the list of condemned packs.
pub fn condemned(payload: &[u8]) -> bool {
    look_at::<Condemned>(payload, |condemned| name_packs(&condemned.packs))
}

/// The payload of the list of dropped packs.
pub fn dropped(payload: &[u8]) -> bool {
    look_at::<Dropped>(payload, |dropped| name_packs(&dropped.packs))
}

/// The payload of the ledger of scrubs.
pub fn scrub_ledger(payload: &[u8]) -> bool {
    look_at::<ScrubLedger>(payload, |ledger| {
        ledger.last.iter().for_each(|last| [last.start, last.end].into_iter().for_each(show));
    })
}

fn name_packs(packs: &PackNames) {
    assert!(packs.is_empty() == (packs.iter().count() == 0));
}

/// A sealed object of whatever kind, but for its checksum; and the same bytes as they are.
pub fn envelope(bytes: &[u8]) -> bool {
    let summed = with_checksum(bytes.to_vec());
    let opens: [fn(&[u8]) -> bool; 10] = [
        opens::<Header>,
        opens::<StreamObject>,
        opens::<Record>,
        opens::<Labels>,
        opens::<Damage>,
        opens::<CopyTarget>,
        opens::<Claim>,
        opens::<Condemned>,
        opens::<Dropped>,
        opens::<ScrubLedger>,
    ];
    // No checksum is right by chance.
    opens.iter().filter(|opens| !opens(bytes) && opens(&summed)).count() > 0
}

fn opens<T: SealedKind>(bytes: &[u8]) -> bool {
    is_canonical(bytes, |bytes| open::<T>("object", bytes).ok(), |value| seal(value).unwrap_or_default())
}

/// Opens a payload in its envelope, and looks at what it says.
fn look_at<T: SealedKind>(payload: &[u8], look: impl Fn(&T)) -> bool {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let body = [MAGIC, &T::KIND, &T::VERSION.to_le_bytes(), &[0; 2], &length, payload].concat();
    let bytes = with_checksum(body);
    if let Ok(value) = open::<T>("object", &bytes) {
        look(&value);
    }
    opens::<T>(&bytes)
}

fn with_checksum(mut body: Vec<u8>) -> Vec<u8> {
    let sum: [u8; 32] = ChecksumContext::SealedObject.sum(&body);
    body.extend_from_slice(&sum);
    body
}

/// Tells a time in all the ways in which times are told.
fn show(time: Timestamp) {
    assert!(!time.to_string().is_empty());
    let _ = (
        time.to_revision_name(),
        time.to_system_time(),
        time.as_nanoseconds(),
        time.seconds_since(Timestamp::now()),
    );
}
