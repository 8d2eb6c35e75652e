package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	// MaxStreams and MaxPeers bound what a store remembers and holds in memory, some 150 bytes
	// each and the name. Nothing is ever forgotten to make room: that would be reuse.
	MaxStreams = 1 << 16
	MaxPeers   = 1 << 16

	// MaxStreamName is the length of the longest stream name, in bytes.
	MaxStreamName = 1024

	// MaxSeq is the highest seq of a stream; it fits a 62-bit varint.
	MaxSeq uint64 = 1<<62 - 1

	// MaxRaise is the highest incarnation RaiseAbove heeds, so that no peer can use up the numbers.
	MaxRaise uint64 = 1 << 62

	maxIncarnation = 1 << 63
	closeLimit     = 10 * time.Second
)

// Options of a store. The zero value works.
type Options struct {
	Logger *slog.Logger     // nil: discard
	Rand   io.Reader        // of ids and editions; nil: crypto/rand
	Now    func() time.Time // wall clock, written with each commit; nil: time.Now

	Profile Profile // how much memory to take; ProfileAuto looks at machine and file system

	// Quota bounds the bytes of waiting records, with what their blocks cost; 0: no bound. Above
	// it Append is refused with ErrSpoolFull. Settlements and notes are not held back.
	Quota int64

	// Key encrypts what is written to the disk: KeySize bytes, see ReadKeyFile and the package
	// comment. It is settled when the store is made, and nil then means for good: not encrypted.
	// Open and Store keep the slice; it must not change.
	Key []byte

	// Reserve is how many bytes of the file system Append leaves free. 0: as the profile says,
	// below 0: none.
	Reserve int64
}

// Store is an open store. All methods may be called concurrently. Those that change something
// block until it is on disk; there is no way to interrupt a sync. ID, Edition, Incarnation and
// Seen never touch the disk, and answer after Close as well.
type Store struct {
	dir     string
	log     *slog.Logger
	rand    io.Reader
	now     func() time.Time
	lock    io.Closer
	db      *badger.DB
	edition uint64
	damage  error // what Open found to be lost; nil: nothing

	again    bool  // damage was found before, when the store was opened last
	unmarked error // why there is no mark to go by; nil: there is

	key       []byte // nil: not encrypted
	badgerKey []byte // derived from it

	profile sizes
	quota   int64
	room    *room

	writing sync.Mutex // held for a whole change of streams, peers or head; taken before change and mu
	streams map[string]*stream

	work    chan struct{} // tells the committer to look; holds one
	full    chan struct{} // tells it that the group being filled is as large as it should get; holds one
	flight  chan struct{} // the committer's: closed when a group that it wrote has landed; nil: none is on its way
	landing chan *group   // groups whose Thens are to be called
	stop    chan struct{} // tells the sweeper to end
	owned   sync.WaitGroup
	mark    *markFile // the committer's, once it runs
	ahead   *ahead    // the committer's
	syncs   stopwatch

	txn      sync.Mutex // held for a transaction and while Badger drops; with the race detector while it collects, too
	sweeping sync.Mutex // held for a sweep: while one drops its prefix, no other could write

	reading    sync.RWMutex // held while Badger's maps are read
	unreadable bool         // Badger is closed, or about to be

	change      sync.Mutex // held from Begin to End; taken before mu
	open        *group     // being filled
	flying      []*group   // taken by the committer, two at most
	committed   Group
	next        storeRecord       // as of the last group taken
	sums        map[string]uint32 // checksums of all small records, as of the last group taken
	queues      map[string]*Queue
	lastQueue   uint64 // highest queue id given out
	lastSegment uint64 // highest number given out
	notes       map[string]*note
	dead        []op  // blocks to be deleted
	held        int64 // bytes of all queues
	segments    map[uint64]*segment
	thinning    []*segment // some of whose deletions are in no group yet
	sweep       sweeper
	pace        pace
	looking     bool // Append was refused for want of free space, which may have changed
	ended       bool // no change is begun any more

	mu     sync.RWMutex
	head   storeRecord // as on disk
	peers  map[[16]byte]uint64
	ends   map[string]uint64 // of streams: the last seq that may have been used
	closed bool
	failed error
	halted atomic.Bool // closed or failed

	closing  sync.Once
	done     chan struct{} // closed after closeErr is set
	closeErr error
}

// Open opens the store in dir, or makes one there; missing directories are made with mode 0700.
// It returns when the new incarnation is on disk, usually within 200 ms.
//
// A store whose last commits are gone is opened all the same, under a new store id: Stat and the
// log say what is lost, and OpenQueue says it with exact ranges. Other damage is ErrDamaged the
// first time. The second time in a row a store whose mark file alone is damaged is opened under a
// new store id. The files of any other are moved aside, to a directory whose name begins with its own
// and ".damaged", and a new store begins, which tells in the same way of all that it should have held.
//
// Errors name dir and match ErrLocked, ErrForeign, ErrVersion, ErrNoKey, ErrWrongKey, ErrNotEncrypted,
// ErrDamaged or, if the disk fails meanwhile, ErrFailed; others are the operating system's. After an
// error no lock is held.
func Open(dir string, opt Options) (*Store, error) {
	s, err := open(dir, opt)
	if err != nil {
		return nil, fmt.Errorf("spool: open %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, opt Options) (*Store, error) {
	s, err := tryOpen(dir, opt)
	if s == nil && errors.Is(err, errMovedAside) {
		s, err = tryOpen(dir, opt)
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("spool: open", "dir", s.dir, "store", fmt.Sprintf("%x", s.head.id), "incarnation", s.head.incarnation, "profile", s.profile.profile.String())
	return s, nil
}

// tryOpen opens what is there. errMovedAside: it was beyond use, and a new store can be made.
func tryOpen(dir string, opt Options) (*Store, error) {
	if opt.Key != nil && len(opt.Key) != KeySize {
		return nil, fmt.Errorf("a key of %d bytes, want %d", len(opt.Key), KeySize)
	}
	p, err := claim(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(p, opt)
	s.again = p.attempt.failures > 0
	if err = s.start(p); err == nil {
		return s, p.attempt.succeeded(p.dir)
	}
	s.halt()
	err = errors.Join(p.attempt.failed(p.dir, err), err, s.shut())
	if errors.Is(err, ErrDamaged) && p.attempt.failures > 1 {
		err = errors.Join(s.moveAside(p, err), err)
	}
	return nil, errors.Join(err, p.lock.Close())
}

func newStore(p *place, opt Options) *Store {
	s := &Store{
		dir:         p.dir,
		log:         opt.Logger,
		rand:        opt.Rand,
		now:         opt.Now,
		key:         opt.Key,
		lock:        p.lock,
		streams:     make(map[string]*stream),
		peers:       make(map[[16]byte]uint64),
		ends:        make(map[string]uint64),
		profile:     sizesFor(opt.Profile, p.dir),
		stop:        make(chan struct{}),
		sweep:       sweeper{asked: make(chan bool, 1)},
		quota:       opt.Quota,
		work:        make(chan struct{}, 1),
		full:        make(chan struct{}, 1),
		open:        newGroup(1),
		sums:        make(map[string]uint32),
		queues:      make(map[string]*Queue),
		notes:       make(map[string]*note),
		segments:    make(map[uint64]*segment),
		lastSegment: firstSegment - 1,
		done:        make(chan struct{}),
	}
	s.room = newRoom(p.dir, s.profile, opt.Reserve)
	s.pace.window = s.profile.wal
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// start reads and checks what is there and begins a new incarnation.
func (s *Store) start(p *place) error {
	if err := s.startKey(p); err != nil {
		return err
	}
	m, err := s.startMark(p)
	if err != nil {
		return err
	}
	if err := s.room.start(); err != nil {
		return err
	}
	if err := p.attempt.begun(p.dir); err != nil {
		return err
	}
	if err := p.removeEmptyLogs(); err != nil {
		return err
	}
	if err := s.completeRegistry(); err != nil {
		return err
	}
	if p.manifest {
		if err := checkTables(s.dir, s.badgerKey); err != nil {
			return err
		}
	}
	if s.db, err = openBadger(s.dir, s.profile, s.badgerKey, badgerLog{s.log, s.fail}); err != nil {
		return err
	}
	// Badger leaves the entries of its new logs to chance.
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if err := s.load(m); err != nil {
		return err
	}
	if err := errors.Join(removeWAL(s.dir), s.tidySegments()); err != nil {
		return err
	}
	if err := s.condemnLeftovers(); err != nil {
		return err
	}
	if s.unmarked != nil {
		m = mark{}
	}
	if s.edition, err = s.random64(); err != nil {
		return err
	}
	return s.beginLife(m)
}

// startGroups starts the committer and who tells what it did.
func (s *Store) startGroups() {
	s.landing = make(chan *group, untold)
	s.ahead = newAhead(s)
	s.owned.Go(s.tellGroups)
	s.owned.Go(s.commitGroups)
}

// beginLife commits the new incarnation, and what was found to be lost.
func (s *Store) beginLife(m mark) error {
	incarnation := max(s.head.incarnation, m.incarnation) + 1
	if incarnation >= maxIncarnation {
		return fmt.Errorf("%w: incarnation %d", ErrFull, incarnation)
	}
	s.sweepAfterOpen()
	s.owned.Go(s.runSweeps)
	if s.damage == nil {
		if err := s.mark.begin(s.markNow(), 0); err != nil {
			return err
		}
		s.startGroups()
		return s.commitHead(s.head.id, incarnation)
	}
	// The old mark proves the damage. It must stay until a new store id is on disk, or a kill
	// here would have the old id go on with seqs it has used.
	id, err := s.randomID()
	if err != nil {
		return err
	}
	s.startGroups()
	return s.commitSmall(func(c *Change) {
		c.g.head = &headChange{id, incarnation}
		c.doubtAll()
		for _, q := range s.queues {
			c.keepLost(q)
			for b := q.tail; b != nil; b = b.prev {
				if b.through > b.last {
					c.mark(b)
				}
			}
			if known := m.queues[q.rec.id]; known.name == q.name {
				c.Settle(q, 1, known.trim)
			}
		}
	}, nil)
}

// markNow is the mark of what is on disk, while nothing is under way.
func (s *Store) markNow() mark {
	s.change.Lock()
	defer s.change.Unlock()
	m := mark{s.next.id, s.next.incarnation, s.next.commits, s.next.commits, make(map[uint64]markedQueue)}
	for _, q := range s.queues {
		if q.rec.id > 0 {
			q.marked = true
			m.queues[q.rec.id] = markedQueue{q.name, q.rec.trim, q.rec.next}
		}
	}
	return m
}

// commitHead makes a new store id and incarnation durable.
func (s *Store) commitHead(id [16]byte, incarnation uint64) error {
	return s.commitSmall(func(c *Change) {
		if c.g != nil {
			c.g.head = &headChange{id, incarnation}
			if id != s.ID() {
				c.doubtAll()
			}
		}
	}, nil)
}

// startMark reads the mark file, or makes it with a new store id: the mark comes first, so that
// files of Badger's without it are damage and not a store that was never finished.
func (s *Store) startMark(p *place) (mark, error) {
	s.mark = &markFile{dir: s.dir, key: s.key, room: s.profile.mark}
	if !p.marked && !p.badger {
		id, err := s.randomID()
		if err != nil {
			return mark{}, err
		}
		m := mark{id: id}
		return m, s.mark.begin(m, 0)
	}
	m, err := readMark(s.dir, s.key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("%w: mark file %s is missing", ErrDamaged, markName)
	case err == nil && m.certain > 0 && !p.manifest:
		// Badger would begin a new one and delete every table.
		return mark{}, fmt.Errorf("%w: %s is missing", ErrDamaged, manifestName)
	}
	if p.manifest && s.doWithout(err) {
		return mark{}, nil
	}
	return m, err
}

// doWithout says whether the store goes on without its mark, for what is wrong with it: the second
// time in a row that it is damaged. What Badger has is checked in other ways; only whether its last
// commits are all there cannot be known.
func (s *Store) doWithout(err error) bool {
	if !s.again || !errors.Is(err, ErrDamaged) {
		return false
	}
	s.unmarked = err
	return true
}

// ID returns the store id: 128 random bits minted with the directory, and again by RaiseAbove.
func (s *Store) ID() [16]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head.id
}

// Edition returns the 64 random bits minted by this Open.
func (s *Store) Edition() uint64 { return s.edition }

// Incarnation returns the incarnation of this life: one more than the last, or what RaiseAbove
// made it. It starts at 1.
func (s *Store) Incarnation() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head.incarnation
}

// RaiseAbove answers a peer that has seen this node at an incarnation not below the present one:
// the directory was rolled back or cloned. The incarnation becomes seen+1 and the store id is
// minted anew; both are on disk when it returns. Seqs, gaps and peers stay as they are, and so
// does the edition. Below the present incarnation seen says nothing new: nothing changes, so
// several peers may complain of one rollback.
//
// It returns the incarnation that holds now. From MaxRaise on, seen is refused with ErrFull.
func (s *Store) RaiseAbove(seen uint64) (incarnation uint64, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.writable(); err != nil {
		return 0, fmt.Errorf("spool: raise incarnation: %w", err)
	}
	s.mu.RLock()
	head := s.head
	s.mu.RUnlock()
	if seen < head.incarnation {
		return head.incarnation, nil
	}
	if seen >= MaxRaise {
		return 0, fmt.Errorf("spool: raise incarnation above %d: %w", seen, ErrFull)
	}
	head.incarnation = seen + 1
	if head.id, err = s.randomID(); err != nil {
		return 0, fmt.Errorf("spool: raise incarnation: %w", err)
	}
	if err := s.commitHead(head.id, head.incarnation); err != nil {
		return 0, fmt.Errorf("spool: raise incarnation: %w", err)
	}
	s.log.Warn("spool: forked to a new store id", "dir", s.dir, "store", fmt.Sprintf("%x", head.id), "incarnation", head.incarnation)
	return head.incarnation, nil
}

// Seen returns the highest incarnation of a node that See was told; 0 if none.
func (s *Store) Seen(node [16]byte) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.peers[node]
}

// See remembers the incarnation of a node if it is higher than all before. It is on disk when See
// returns; a known one costs nothing. For the first MaxPeers nodes; then ErrFull.
func (s *Store) See(node [16]byte, incarnation uint64) error {
	if incarnation <= s.Seen(node) {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.see(node, incarnation); err != nil {
		return fmt.Errorf("spool: see node %x: %w", node, err)
	}
	return nil
}

// see is See without the shortcut. s.writing must be held.
func (s *Store) see(node [16]byte, incarnation uint64) error {
	if err := s.writable(); err != nil {
		return err
	}
	old := s.peers[node] // only changed under s.writing
	if incarnation <= old {
		return nil
	}
	if old == 0 && len(s.peers) >= MaxPeers {
		return fmt.Errorf("%w: %d nodes", ErrFull, len(s.peers))
	}
	return s.commitSmall(
		func(c *Change) { c.set(peerKey(node), sealPeer(node, incarnation)) },
		func() { s.peers[node] = incarnation })
}

// Close ends the store and waits for a change under way and for Badger, which takes milliseconds.
// If next to nothing is owed it first gives back the room of what has been settled, for 2 s at
// most; what it leaves the next Open sees to. Streams not released count as ended uncleanly. If the
// disk hangs Close gives up waiting after 10 s with an error; the lock then stays with this process
// until the disk answers. Further calls return the same.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.halted.Store(true)
		s.mu.Unlock()
		go func() {
			s.halt()
			s.closeErr = errors.Join(s.sweepLast(), s.shut(), s.lock.Close())
			close(s.done)
		}()
	})
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
		return fmt.Errorf("spool: close %s: the disk has not answered for %v", s.dir, closeLimit)
	}
	if s.closeErr != nil {
		return fmt.Errorf("spool: close %s: %w", s.dir, s.closeErr)
	}
	return nil
}

// halt ends committer and sweeper. What was begun before is committed.
func (s *Store) halt() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.change.Lock()
	s.ended = true
	s.change.Unlock()
	s.kick()
	close(s.stop)
	s.owned.Wait()
}

// shut gives back what start took, but the lock. Badger waits for its goroutines but one, the
// watcher of its caches, which it tells to end.
func (s *Store) shut() error {
	var errs []error
	s.reading.Lock()
	s.unreadable = true
	s.reading.Unlock()
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.mark != nil {
		errs = append(errs, s.mark.close())
	}
	return errors.Join(errs...)
}

// fail makes the store read-only; the first reason stays. Badger's log calls it from any goroutine.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failed == nil
	if first {
		s.failed = err
		s.halted.Store(true)
	}
	s.mu.Unlock()
	if first {
		s.log.Error("spool: the store is read-only until it is opened again", "dir", s.dir, "err", err)
	}
}

func (s *Store) failure() error {
	if !s.halted.Load() {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, s.failed)
	}
	return nil
}

// writable returns why nothing can be written, if so.
func (s *Store) writable() error {
	if !s.halted.Load() {
		return nil
	}
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	return s.failure()
}

func (s *Store) randomID() (id [16]byte, err error) {
	if _, err := io.ReadFull(s.rand, id[:]); err != nil {
		return id, fmt.Errorf("random bits: %w", err)
	}
	return id, nil
}

func (s *Store) random64() (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		return 0, fmt.Errorf("random bits: %w", err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}
