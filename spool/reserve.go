package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Badger writes through memory maps, and a map that meets a full disk ends the process. So
//
//   - Append leaves a reserve of the file system free; what must go through can use it up
//   - the ballast is a file of allocated blocks, given back to the file system when even the
//     reserve runs out, before a sweep makes room
//   - on Linux the blocks of the files that Badger is writing to are allocated before it does
//
// All that is known about it is room's. Where free space cannot be asked for there is no reserve.
type room struct {
	dir     string
	reserve int64 // bytes Append leaves free; 0: no reserve
	ballast int64 // bytes of the ballast; 0: none
	size    sizes
	free    atomic.Int64 // of the file system when last looked; noLimit: unknown
	dropped atomic.Bool  // the ballast is not there: Append leaves that much free as well

	tending sync.Mutex // held while the ballast is made or dropped

	// The committer's.
	mem, vlog activeFile
}

const (
	ballastName = "ballast"
	noLimit     = int64(1) << 62

	// allocateStep is how much is allocated ahead at least.
	allocateStep = 256 << 10

	// entryCost bounds what Badger adds to key and value in a file.
	entryCost = 64
)

// activeFile is a file that Badger appends to.
type activeFile struct {
	ext       string
	digits    int
	number    int   // 0: not known yet
	written   int64 // at most
	allocated int64
}

func (f activeFile) path(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d%s", f.digits, number, f.ext))
}

// newRoom decides on reserve and ballast: together at most a quarter of the file system.
func newRoom(dir string, size sizes, wanted int64) *room {
	r := &room{
		dir: dir, size: size,
		mem: activeFile{ext: ".mem", digits: 5}, vlog: activeFile{ext: ".vlog", digits: 6},
	}
	r.free.Store(noLimit)
	total, _, ok := fileSystem(dir)
	if !ok || wanted < 0 {
		return r
	}
	r.dropped.Store(true)
	r.ballast = min(max(8<<20, 3*size.memTable), total/6)
	r.reserve = min(size.reserve, total/4-r.ballast)
	if wanted > 0 {
		r.reserve = wanted
	}
	return r
}

// start sees to it that there is room to open Badger, which writes its logs out then: at the cost
// of the ballast if need be. It makes the ballast if there is room for it.
func (r *room) start() error {
	if r.reserve == 0 {
		return nil
	}
	info, err := os.Stat(filepath.Join(r.dir, ballastName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r.dropped.Store(err != nil || info.Size() != r.ballast)
	r.tend()
	need := min(2*r.size.memTable, r.ballast)
	if r.free.Load() < need {
		if err := r.dropBallast(); err != nil {
			return err
		}
		r.look()
	}
	if free := r.free.Load(); free < need {
		return &FullError{Disk: true, Limit: need, Free: free}
	}
	return nil
}

// look asks how much is free.
func (r *room) look() {
	if r.reserve == 0 {
		return
	}
	if _, free, ok := fileSystem(r.dir); ok {
		r.free.Store(free)
	}
}

// short says how many bytes are free if size more are too many for Append.
func (r *room) short(size int64) (free int64, short bool) {
	if r.reserve == 0 {
		return 0, false
	}
	free = r.free.Load()
	return free, free-size < r.limit()
}

// limit is what Append leaves free.
func (r *room) limit() int64 {
	if r.dropped.Load() {
		return r.reserve + r.ballast
	}
	return r.reserve
}

// fits says whether size more bytes may be appended. s.change must be held.
func (s *Store) fits(size int64) error {
	need := size + blockCost
	if s.quota > 0 && s.held+need > s.quota {
		return &FullError{Used: s.held, Limit: s.quota, Need: need}
	}
	pending := need + int64(s.open.size) + s.ahead.owed.Load()
	for _, g := range s.flying {
		pending += int64(g.size)
	}
	if free, short := s.room.short(pending); short {
		s.looking = true // the committer looks again
		s.kick()
		return &FullError{Disk: true, Limit: s.room.limit(), Free: free, Need: need}
	}
	return nil
}

// prepare sees to it that the ops can be written: the committer calls it before each group.
func (r *room) prepare(ops []op) error {
	r.tend()
	var mem, vlog int64
	for _, o := range ops {
		if len(o.value) >= valueThreshold {
			vlog += int64(len(o.key)+len(o.value)) + entryCost
			mem += int64(len(o.key)) + entryCost
		} else {
			mem += int64(len(o.key)+len(o.value)) + entryCost
		}
	}
	return errors.Join(r.allocate(&r.mem, mem+entryCost), r.allocate(&r.vlog, vlog))
}

// allocate has the blocks of an active file allocated for so many more bytes.
func (r *room) allocate(f *activeFile, need int64) error {
	if r.reserve == 0 {
		return nil
	}
	var err error
	for range followTries {
		if err = r.follow(f, need); err != nil {
			return err
		}
		if err = r.allocateTo(f, f.written+need); !errors.Is(err, os.ErrNotExist) {
			f.written += need
			return err
		}
		// A sweep is about to put another in its place.
		f.number = 0
		time.Sleep(followPause)
	}
	return err
}

// followTries and followPause bound the wait for a sweep that is replacing a file.
const (
	followTries = 5000
	followPause = time.Millisecond
)

func (r *room) allocateTo(f *activeFile, size int64) error {
	if size <= f.allocated {
		return nil
	}
	path := f.path(r.dir, f.number)
	ahead := size + allocateStep
	if r.free.Load() > 8*r.reserve {
		ahead = max(ahead, min(2*size, size+r.size.memTable))
	}
	err := allocate(path, ahead)
	if errors.Is(err, syscall.ENOSPC) {
		// Without what is allocated ahead; if need be from the ballast.
		ahead = size
		err = allocate(path, ahead)
	}
	if errors.Is(err, syscall.ENOSPC) {
		if err = r.dropBallast(); err == nil {
			err = allocate(path, ahead)
		}
	}
	if err == nil {
		f.allocated = ahead
	}
	return err
}

// follow finds out which file Badger writes to.
func (r *room) follow(f *activeFile, need int64) error {
	if f.number == 0 {
		n, err := newestNumbered(r.dir, f.ext)
		if err != nil {
			return err
		}
		f.number, f.written, f.allocated = n, 0, 0
	}
	for {
		_, err := os.Stat(f.path(r.dir, f.number+1))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		// A memtable is begun by the group that no longer fits the one before.
		f.number++
		f.written, f.allocated = need, 0
	}
}

// tend asks how much is free, drops the ballast when it is needed, and makes it when there is room
// for it.
func (r *room) tend() {
	if r.ballast == 0 || r.reserve == 0 {
		return
	}
	r.tending.Lock()
	defer r.tending.Unlock()
	r.look()
	free, dropped := r.free.Load(), r.dropped.Load()
	switch {
	case !dropped && free < r.reserve/2:
		if r.dropBallast() != nil {
			return // it is tried again with the next group
		}
	case dropped && free >= r.ballast+r.reserve*5/4:
		if r.makeBallast() != nil && r.dropBallast() != nil {
			return
		}
	default:
		return
	}
	r.look()
}

func (r *room) makeBallast() error {
	path := filepath.Join(r.dir, ballastName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(r.ballast)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := allocate(path, r.ballast); err != nil {
		return err
	}
	r.dropped.Store(false)
	return nil
}

// dropBallast gives the ballast back.
func (r *room) dropBallast() error {
	r.dropped.Store(true)
	err := os.Remove(filepath.Join(r.dir, ballastName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
