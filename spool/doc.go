// Package spool keeps on disk what a node must not forget between two lives: records
// that wait in queues, small notes beside them, and who has used which numbers.
//
//	store id      128 bits minted with the directory: "this disk state"
//	edition       64 bits minted at each Open, and kept with every record
//	incarnation   counts the Opens; raised and on disk before Open returns
//	queues        records numbered from 1 without holes, until each is settled
//	notes         small named values
//	streams       which sequence numbers were handed out, in reserved blocks
//	peers         the highest incarnation of each node ever met
//
// It knows nothing of what the records say or where they go.
//
// # Queues and changes
//
// A [Change] is several operations that reach the disk in one transaction, whole or
// not at all, whatever queues they touch:
//
//	jobs, state, err := s.OpenQueue("jobs")    // state: what is owed, and by whom tried
//	...
//	c := s.Begin()
//	seq, base, record, err := c.Append(jobs, size, frame)
//	c.Settle(done, 7, 9)
//	c.Put("note", value)
//	c.Then(func(err error) { ... })            // err == nil: it is on disk
//	c.End()                                    // does not wait
//	...
//	b, err := jobs.Read(seq)                   // committed blocks, from any seq on
//
// All changes that end while the disk is busy with one transaction are the next: one
// Group, one sync, however many senders wait for it. Ready slows senders down to the
// speed of the disk; nothing else ever waits but Wait.
//
// A group goes to a write-ahead log first, where one sync makes it durable; Badger takes over
// in larger pieces, beside the groups that follow. What is settled before that never reaches it.
// Files of the log to which large groups go are kept, as segments, and Badger gets where the blocks in
// them lie. See ahead.go, wal.go and segment.go.
//
// Records lie in blocks, one value each, written once and deleted once. What
// is settled within a block that still owes something is a small record beside it. So
// a settlement costs a few bytes, and a block goes when its last record is settled. A
// sweep gives the room back while commits go on; when a queue has emptied, the files
// that Badger is writing to as well. A segment goes when nothing of it is left; what is left of one that
// is half empty moves to Badger. Close of a store that owes next to nothing ends
// with a sweep, and what a kill has left there is swept after the next Open.
//
// # Full disks
//
// Append is refused with ErrSpoolFull, definitely and at once, when the quota is used
// up or the file system would have less than the reserve left. Settlements and notes
// go through: for them the reserve is there, and after it the ballast, a file that is
// given back. Badger writes through memory maps, where a full disk ends the process;
// on Linux the blocks it will write are therefore allocated before. Elsewhere there is
// no reserve.
//
// # Streams
//
// A stream that sends at level Memory keeps no message here, only the fact that
// its numbers may have been used:
//
//	r, err := s.Resume("jobs")            // r.Gap: "these will never be sent again"
//	seq, end := r.Next, r.End             // end is r.Next-1: nothing reserved yet
//	...
//	if seq > end {                        // before the first use of a number
//		end = seq + spool.ReserveBlock - 1
//		err = s.Reserve("jobs", lowest, end)
//	}
//	...
//	err = s.Release("jobs", seq, lowest)  // clean close: seq and above are unused
//	err = s.Forget("jobs", r.Gap.To)      // once everybody who must hear of the gap has
//
// # The rule of gaps
//
// Of each stream the store keeps four numbers: end, the last seq that may have
// been used; lowest, the lowest seq of the present use not known settled; and
// the gap, from and to.
//
//   - Resume makes lowest..end of the last use part of the gap (one range that
//     covers both) and goes on at end+1. It writes nothing: a life that ends
//     before its first Reserve leaves the same gap to the next one.
//   - Reserve and Release speak only of seqs given out by the present use. They
//     carry the gap along and never shorten it. A lowest below the present use
//     counts as its first seq.
//   - Release lowers end to the last seq used. With lowest == next the use
//     leaves nothing to the gap.
//   - Only Forget shortens the gap. A first Reserve that knows of nothing
//     unsettled must not drop it: at that time no receiver has attached, so
//     nobody has been told.
//
// So a gap is told until the caller says that it has been told. It may cover
// seqs that were settled (the end of a block nobody used, the settled part
// between two unclean ends), never a seq that is sent later: "will never be
// sent again" stays true of every seq in it.
//
// # Damage
//
// A commit is one synced entry of the write-ahead log, or one synced Badger transaction, and at
// the same time one synced entry of a mark file beside it that says how far each queue goes. Open
// has Badger take over what the log holds. Each value carries a version
// and a crc32c over its key and itself; one record carries the number of the others and
// of the blocks, and the sum of their checksums. Open reads all but the blocks' records,
// and compares:
//
//	the last commits are gone        opened under a new store id; the mark names what
//	                                 is lost, OpenQueue tells it with exact ranges, in this
//	                                 and each later life until ForgetLost
//	other damage: a lost table, an   ErrDamaged the first time. The second time in a
//	old file put back, a record      row the files are moved to a directory beside it, and a
//	that vanished, a torn footer     new store begins that tells what the old one should have
//	                                 held
//	the mark file is damaged         ErrDamaged the first time; the second time opened
//	                                 under a new store id
//	a block's records are damaged,   Read returns a DamagedError with the exact range;
//	or its segment is missing        the rest is read
//
// A new store id tells every peer that what it remembers of this store no longer holds,
// so a seq that is used again is another message. A whole directory that was rolled
// back or cloned cannot be seen from inside: peers remember the incarnation, and
// RaiseAbove answers them.
//
// After a failed write or sync the store refuses further writes until it has
// been closed and opened, that is, verified, again. A sync is never retried.
//
// # Encryption
//
// With Options.Key all that a caller names or stores is encrypted before it is written: records,
// notes, and the names of queues, streams and notes. Badger does it for its value log, its logs and
// its tables (AES-256-CTR), under a data key that lies in KEYREGISTRY, encrypted with the key; the
// mark file and the write-ahead log are sealed entry by entry (AES-256-GCM). All keys are derived from Options.Key.
//
//	hidden     bodies, headers, keys, topics, notes, all names, seqs
//	not hidden that it is a store of this package and how it is doing: sizes, numbers and times
//	           of files; within Badger's files the length of each key and value, how many a
//	           transaction has, and when the data key was made; how many queues a group touched
//	not proven that nobody has changed it: Badger's checksums and ours are no signatures, so who can
//	           write to the directory can flip bits of what he knows, or put old files back
//
// The key is in memory while the store is open, and what was written before there was a key stays
// on the disk until that overwrites it. Without the key, or without KEYREGISTRY, nothing can be read
// again: keep a copy of the key file elsewhere. Another key needs another directory.
//
// A key that does not fit is never taken for damage: ErrNoKey, ErrWrongKey or ErrNotEncrypted, and
// nothing is changed or moved aside. A store whose mark file and KEYREGISTRY are both beyond reading
// says ErrNoKey or ErrWrongKey as well.
//
// # What is not promised
//
// In the 50 ms before an idle store has settled its mark, or of the last group under
// load, the loss of exactly that group is not told from a kill in the midst of it. On
// Windows Badger's sync does not reach the disk: after a power cut Open may report
// damage there. When Badger refuses to open a damaged store it leaves a few idle
// goroutines behind.
package spool
