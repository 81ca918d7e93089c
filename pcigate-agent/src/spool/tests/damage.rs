//! Known errors: files cut, corrupted, removed, or of another spool.

use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use super::*;

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

fn cut_by(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

/// Offset of the frame of the `index`th record of a segment of 7 KiB records.
fn frame(index: usize) -> usize {
    HEADER_BYTES + index * (FRAME_BYTES + 7 * 1024)
}

fn corrupt(dir: &TempDir) -> (u64, u64, Option<u64>) {
    match Spool::open(dir.path(), SMALL) {
        Err(SpoolError::Corrupt { offset, first_seq, last_seq, .. }) => {
            (offset, first_seq, last_seq)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the damage went unnoticed"),
    }
}

/// Ends the process while the staged group is on its way to the disk, which has `some` of it.
fn power_cut(dir: &TempDir, spool: Spool, some: impl FnOnce(&mut Vec<u8>)) {
    let (mut group, newest) = (spool.staged.clone(), spool.newest().unwrap());
    some(&mut group);
    assert!(newest.path.starts_with(dir.path()));
    let file = fs::OpenOptions::new().write(true).open(&newest.path).unwrap();
    file.write_all_at(&group, newest.bytes).unwrap();
    drop(spool);
}

#[test]
fn an_unfinished_write_at_the_very_end_is_cut_off() {
    let (dir, mut spool) = four_segments();
    append(&mut spool, 300).unwrap();
    power_cut(&dir, spool, |group| group.truncate(200));
    let mut spool = open(&dir);
    assert_eq!(spool.next_seq(), 21);
    fill_to(&mut spool, 22, 300);
    assert_eq!(read_all(&mut spool, 1).0, (1..=22).collect::<Vec<_>>());
}

#[test]
fn a_group_whose_later_parts_reached_the_disk_first_was_never_durable() {
    for lost in 0..3 {
        let (dir, mut spool) = four_segments();
        for _ in 0..3 {
            append(&mut spool, 100).unwrap();
        }
        power_cut(&dir, spool, |group| group[lost * (FRAME_BYTES + 100)..][..50].fill(0));
        assert_eq!(open(&dir).next_seq(), 21 + lost as u64, "frame {lost} did not arrive");
    }
}

#[test]
fn a_durable_group_that_is_gone_is_damage_also_at_the_very_end() {
    let (dir, spool) = four_segments();
    drop(spool);
    cut_by(&segment_path(&dir, 16), 100);
    assert_eq!(corrupt(&dir), (frame(4) as u64, 20, Some(20)));
    set_aside_corrupt(dir.path()).unwrap();
    assert!(open(&dir).next_seq() > 21, "number 20 is not used twice");
}

#[test]
fn without_the_cursor_no_number_is_used_twice_whatever_else_is_lost() {
    let lose: [fn(&Path); 3] = [
        |newest| fs::remove_file(newest).unwrap(),
        |newest| fs::write(newest, [0; 500]).unwrap(),
        |newest| cut_by(newest, 7 * 1024 + 20),
    ];
    for lose in lose {
        let (dir, spool) = four_segments();
        drop(spool);
        fs::remove_file(dir.path().join("acked")).unwrap();
        lose(&segment_path(&dir, 16));
        set_aside_corrupt(dir.path()).unwrap();
        assert!(open(&dir).next_seq() > 20);
    }
}

#[test]
fn a_segment_whose_making_failed_half_way_is_no_segment() {
    let (dir, spool) = four_segments();
    let header = fs::read(segment_path(&dir, 16)).unwrap()[..HEADER_BYTES].to_vec();
    drop(spool);
    // The numbers 18 and 20 went into segment 16 after all; 23 was to be next.
    for (first_seq, bytes) in [(18, 0), (20, 20), (23, 44)] {
        fs::write(segment_path(&dir, first_seq), &header[..bytes]).unwrap();
    }
    let mut spool = open(&dir);
    assert_eq!((spool.next_seq(), segments(dir.path())), (21, vec![1, 6, 11, 16]));
    assert_eq!(read_all(&mut spool, 1), ((1..=20).collect(), vec![]));
}

#[test]
fn a_first_segment_the_cursor_never_named_is_named_by_the_next_start() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    fs::write(dir.path().join("acked"), "").unwrap();
    fill_to(&mut open(&dir), 3, 100);
    assert_eq!(open(&dir).next_seq(), 4);
}

#[test]
fn a_spool_of_which_only_the_epoch_is_left_is_a_new_one() {
    let (dir, spool) = four_segments();
    let epoch = spool.epoch();
    drop(spool);
    for first_seq in segments(dir.path()) {
        fs::remove_file(segment_path(&dir, first_seq)).unwrap();
    }
    fs::remove_file(dir.path().join("acked")).unwrap();
    let spool = open(&dir);
    assert!(spool.epoch() != epoch && spool.next_seq() == 1);
}

#[test]
fn an_unfinished_segment_without_records_is_begun_anew() {
    let (dir, spool) = four_segments();
    drop(spool);
    for content in [vec![], vec![0; 13], b"pcgspool\x01".to_vec()] {
        fs::write(segment_path(&dir, 21), content).unwrap();
        let mut spool = open(&dir);
        assert_eq!(spool.next_seq(), 21);
        assert_eq!(read_all(&mut spool, 20), (vec![20], vec![]));
    }
}

#[test]
fn damage_before_valid_records_is_refused_with_file_offset_numbers_and_remedy() {
    let (dir, spool) = four_segments();
    drop(spool);
    flip(&segment_path(&dir, 16), frame(1) + 500);
    assert_eq!(corrupt(&dir), (frame(1) as u64, 17, Some(17)));
    let error = Spool::open(dir.path(), SMALL).unwrap_err().to_string();
    for part in [
        "00000000000000000016.seg is damaged at byte",
        "records 17 to 17 are at stake",
        "--set-aside-corrupt-spool",
        "00000000000000000016.seg.corrupt`",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_earlier_segment_may_not_end_early() {
    let (dir, spool) = four_segments();
    drop(spool);
    cut_by(&segment_path(&dir, 6), 1);
    assert_eq!(corrupt(&dir), (frame(4) as u64, 10, Some(10)));
}

#[test]
fn acknowledged_records_may_not_be_missing_at_the_end() {
    let (dir, mut spool) = four_segments();
    spool.ack(20).unwrap();
    drop(spool);
    cut_by(&segment_path(&dir, 16), 8 * 1024);
    assert_eq!(corrupt(&dir), (frame(3) as u64, 19, None));
    set_aside_corrupt(dir.path()).unwrap();
    assert!(open(&dir).next_seq() > 21, "number 20 is not used twice");
}

#[test]
fn what_is_readable_in_a_damaged_segment_is_kept_and_the_rest_is_a_hole() {
    let (dir, spool) = four_segments();
    drop(spool);
    flip(&segment_path(&dir, 6), frame(2) + 500);
    let done = set_aside_corrupt(dir.path()).unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!((done[0].kept, &done[0].missing[..], done[0].unknown), (4, &[(8, 8)][..], None));
    assert!(done[0].file.ends_with("00000000000000000006.seg.corrupt") && done[0].file.exists());
    let (seen, holes) = read_all(&mut open(&dir), 1);
    assert_eq!(holes, [(8, 8)]);
    assert_eq!(seen, (1..=20).filter(|seq| *seq != 8).collect::<Vec<_>>());
    assert_eq!(set_aside_corrupt(dir.path()).unwrap(), []);
}

#[test]
fn a_destroyed_header_costs_no_record() {
    let (dir, spool) = four_segments();
    drop(spool);
    flip(&segment_path(&dir, 1), 20);
    assert_eq!(corrupt(&dir), (0, 1, Some(5)));
    assert_eq!(set_aside_corrupt(dir.path()).unwrap()[0].kept, 5);
    assert_eq!(read_all(&mut open(&dir), 1), ((1..=20).collect(), vec![]));
}

#[test]
fn after_damage_to_the_newest_segment_no_number_is_used_twice() {
    let (dir, spool) = four_segments();
    drop(spool);
    flip(&segment_path(&dir, 16), frame(1) + 500);
    let done = set_aside_corrupt(dir.path()).unwrap();
    let (first, last) = done[0].unknown.unwrap();
    assert_eq!(first, 21);
    let mut spool = open(&dir);
    assert_eq!(append(&mut spool, 10).unwrap(), last + 1);
    spool.sync().unwrap();
    let (seen, holes) = read_all(&mut spool, 16);
    assert_eq!((seen, holes), (vec![16, 18, 19, 20, last + 1], vec![(17, 17), (21, last)]));
}

#[test]
fn a_segment_set_aside_by_hand_is_a_hole() {
    let (dir, spool) = four_segments();
    drop(spool);
    let path = segment_path(&dir, 6);
    fs::rename(&path, path.with_extension("seg.corrupt")).unwrap();
    let mut spool = open(&dir);
    let (seen, holes) = read_all(&mut spool, 1);
    assert_eq!(holes, [(6, 10)]);
    assert_eq!(seen.len(), 15);
    assert!(spool.read(6, 1, 1).unwrap().hole.unwrap().reason.contains("set aside"));
}

#[test]
fn without_the_newest_segment_numbering_goes_on_behind_all_it_could_have_held() {
    let (dir, mut spool) = four_segments();
    spool.ack(7).unwrap();
    drop(spool);
    fs::remove_file(segment_path(&dir, 16)).unwrap();
    let mut spool = open(&dir);
    let next = append(&mut spool, 10).unwrap();
    assert!(next > 16 + SEGMENT_BYTES_MAX / 100, "{next}");
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool, 14), (vec![14, 15, next], vec![(16, next - 1)]));
}

#[test]
fn damage_while_running_is_noticed_when_it_is_read() {
    let (dir, mut spool) = four_segments();
    flip(&segment_path(&dir, 6), frame(1) + 500);
    assert_eq!(spool.read(6, 10, usize::MAX).unwrap().records.len(), 1);
    assert!(matches!(spool.read(7, 1, 1), Err(SpoolError::Corrupt { first_seq: 7, .. })));
    cut_by(&segment_path(&dir, 11), 100);
    assert!(matches!(spool.read(15, 1, 1), Err(SpoolError::Corrupt { first_seq: 15, .. })));
}

#[test]
fn another_version_and_another_spool_are_named() {
    let (dir, spool) = four_segments();
    drop(spool);
    let path = segment_path(&dir, 16);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    fs::write(&path, &bytes).unwrap();
    let error = Spool::open(dir.path(), SMALL).unwrap_err().to_string();
    assert!(error.contains("format version 9; this agent reads version 2"), "{error}");

    let (other, spool) = four_segments();
    drop(spool);
    fs::copy(segment_path(&other, 16), &path).unwrap();
    let error = Spool::open(dir.path(), SMALL).unwrap_err();
    assert!(matches!(error, SpoolError::Epoch { .. }), "{error}");
}

#[test]
fn the_state_files_say_how_to_repair_them() {
    let (dir, spool) = four_segments();
    drop(spool);
    let (epoch, acked) = (dir.path().join("epoch"), dir.path().join("acked"));
    let kept = fs::read(&epoch).unwrap();
    for content in [&b"xyz"[..], b"", b"00"] {
        fs::write(&epoch, content).unwrap();
        let error = Spool::open(dir.path(), SMALL).unwrap_err().to_string();
        assert!(error.contains("32 hex digits") && error.contains("restore the file"), "{error}");
    }
    fs::remove_file(&epoch).unwrap();
    let error = Spool::open(dir.path(), SMALL).unwrap_err().to_string();
    assert!(error.contains("missing, but there are segments"), "{error}");
    fs::write(&epoch, kept).unwrap();
    fs::write(&acked, "something else").unwrap();
    let error = Spool::open(dir.path(), SMALL).unwrap_err().to_string();
    assert!(error.contains("delete this file"), "{error}");
    fs::remove_file(&acked).unwrap();
    assert_eq!(read_all(&mut open(&dir), 1).0.len(), 20);
}

#[test]
fn a_torn_cursor_leaves_the_one_before() {
    let (dir, mut spool) = four_segments();
    spool.ack(2).unwrap();
    spool.ack(3).unwrap();
    drop(spool);
    let path = dir.path().join("acked");
    let bytes = fs::read(&path).unwrap();
    for start in [0, 4096] {
        let mut torn = bytes.clone();
        torn[start + 10..start + 20].fill(0xAA);
        fs::write(&path, torn).unwrap();
        assert!((2..=3).contains(&open(&dir).acked_seq()));
    }
}

#[test]
fn text_inside_a_record_cannot_pass_for_a_frame() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    let mut forged = vec![0; 8];
    format::put_frame(&mut forged, &[0; 16], 99, (3, 0), b"abc");
    spool.append(1, &forged).unwrap();
    power_cut(&dir, spool, |group| group.truncate(group.len() - 1));
    assert_eq!(open(&dir).next_seq(), 1, "an unfinished write, not damage before a valid frame");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_file_content_makes_opening_panic_or_forge_a_record(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        offset in 0..40_000_usize,
        file in 0..3_usize,
    ) {
        let (dir, spool) = four_segments();
        drop(spool);
        let path = match file {
            0 => dir.path().join("acked"),
            1 => segment_path(&dir, 6),
            _ => segment_path(&dir, 16),
        };
        let mut content = fs::read(&path).unwrap();
        let offset = offset.min(content.len());
        content.splice(offset..(offset + bytes.len()).min(content.len()), bytes);
        fs::write(&path, content).unwrap();
        if let Err(error) = Spool::open(dir.path(), SMALL) {
            prop_assume!(file != 0);
            // What another version may have written is never set aside.
            prop_assume!(!matches!(error, SpoolError::Version { .. }));
            set_aside_corrupt(dir.path()).unwrap();
        }
        let (seen, holes) = read_all(&mut open(&dir), 1);
        let up_to_20 = |(first, last): &(u64, u64)| last.min(&20) + 1 - first.min(&21);
        let missing: u64 = holes.iter().map(up_to_20).sum();
        prop_assert!(seen.len() as u64 + missing <= 20);
        // Only what was cut off at the very end may be neither seen nor a hole.
        prop_assert!(seen.len() as u64 + missing >= 15);
    }
}
