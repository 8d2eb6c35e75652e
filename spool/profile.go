package spool

import "time"

// Profile sizes a store for the machine it runs on.
type Profile uint8

const (
	// ProfileAuto is edge where the file system has less than 1 GiB or the machine less than
	// 512 MiB of memory, else server.
	ProfileAuto Profile = iota
	// ProfileServer takes up to 100 MB of memory when busy.
	ProfileServer
	// ProfileEdge takes up to 25 MB of memory when busy.
	ProfileEdge
)

func (p Profile) String() string {
	switch p {
	case ProfileServer:
		return "server"
	case ProfileEdge:
		return "edge"
	}
	return "auto"
}

// valueThreshold is the size from which on a value goes to Badger's value log. That costs a second
// sync, of which a sender that waits for each message would notice most.
const valueThreshold = 4 << 10

// sizes is what a profile means.
type sizes struct {
	profile     Profile
	block       int           // bytes of records in a block
	group       int           // bytes of records in a group, from which on Ready blocks
	early       int           // bytes of records from which on a group is written while the disk is busy with the one before
	mark        int           // bytes of entries in the mark file
	walLeast    int64         // size of an idle file of the write-ahead log
	wal         int64         // size of a full one
	segment     int64         // size of a full one that is kept
	extend      int64         // how much of it is allocated at a time
	keep        int           // bytes of a value from which on it may stay in a segment, and is written from where it lies
	large       int           // bytes of records from which on a group goes to a segment
	sweep       int64         // bytes of garbage for which a sweep is due
	idle        time.Duration // without a change, after which the store is swept and its log rests
	reserve     int64         // bytes of the file system that Append leaves free
	memTable    int64         // of Badger
	vlogFile    int64         // of Badger
	vlogEntries uint32
	cache       int64 // of Badger, for decrypted blocks and again for decrypted indices
}

// smallMachine and smallDisk are what ProfileAuto takes for a small device.
const (
	smallMachine = 512 << 20
	smallDisk    = 1 << 30
)

// sizesFor settles what ProfileAuto means for dir.
func sizesFor(p Profile, dir string) sizes {
	if p == ProfileAuto {
		total, _, ok := fileSystem(dir)
		if ok && total < smallDisk || 0 < memory() && memory() < smallMachine {
			p = ProfileEdge
		}
	}
	return sizesOf(p)
}

func sizesOf(p Profile) sizes {
	if p == ProfileEdge {
		return sizes{
			profile: ProfileEdge, block: 64 << 10, group: 256 << 10, early: 64 << 10, mark: 64 << 10, walLeast: 64 << 10, wal: 1 << 20, segment: 4 << 20, extend: 1 << 20, keep: 8 << 10, large: 32 << 10,
			sweep: 16 << 20, idle: 250 * time.Millisecond, reserve: 8 << 20, memTable: 2 << 20, vlogFile: 8 << 20, vlogEntries: 128,
			cache: 1 << 20,
		}
	}
	return sizes{
		profile: ProfileServer, block: 256 << 10, group: 2 << 20, early: 256 << 10, mark: 256 << 10, walLeast: 256 << 10, wal: 8 << 20, segment: 32 << 20, extend: 32 << 20, keep: 8 << 10, large: 64 << 10,
		sweep: 64 << 20, idle: 250 * time.Millisecond, reserve: 64 << 20, memTable: 8 << 20, vlogFile: 64 << 20, vlogEntries: 1024,
		cache: 4 << 20,
	}
}
