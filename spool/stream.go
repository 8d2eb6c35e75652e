package spool

import "fmt"

// ReserveBlock is how many seqs a sender at level Memory reserves at a time: a block lost by a
// kill is nothing in 2^62, and one commit in 65,536 messages is not felt.
const ReserveBlock = 1 << 16

// SeqRange is a range of seqs, both ends included.
type SeqRange struct{ From, To uint64 }

// Reservation is where a stream stands when it is taken up.
type Reservation struct {
	Next uint64 // first seq free to use, once reserved
	End  uint64 // last seq reserved: Next-1, for Resume reserves nothing

	// Gap is what earlier uses may have sent and did not settle, and Forget has not dropped:
	// none of these seqs will be sent again. nil: nothing to tell. See the rule of gaps in the
	// package comment.
	Gap *SeqRange
}

// stream is the state of a name. Guarded by Store.writing.
type stream struct {
	disk  streamRecord // as on disk
	rec   streamRecord // as it is now; disk.resumed() if nothing has been written since
	first uint64       // first seq of the present use
	inUse bool
}

// Resume takes up a stream: at its first use in this life, or after Release. It names the first
// seq that was never handed out and the gap that earlier uses left. It writes nothing.
//
// Names are 1 to MaxStreamName bytes, any bytes; a new one starts at seq 1, or above the queue of
// the same name: what that has used needs no reservation, and is in no gap. ErrInUse if it has been
// resumed and not released; ErrFull beyond MaxStreams names.
func (s *Store) Resume(stream string) (Reservation, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	r, err := s.resume(stream)
	if err != nil {
		return Reservation{}, fmt.Errorf("spool: resume stream %q: %w", clip([]byte(stream)), err)
	}
	return r, nil
}

// resume is Resume. s.writing must be held.
func (s *Store) resume(name string) (Reservation, error) {
	if err := s.writable(); err != nil {
		return Reservation{}, err
	}
	if len(name) == 0 || len(name) > MaxStreamName {
		return Reservation{}, fmt.Errorf("a name of %d bytes, allowed are 1 to %d", len(name), MaxStreamName)
	}
	st := s.streams[name]
	if st == nil {
		if len(s.streams) >= MaxStreams {
			return Reservation{}, fmt.Errorf("%w: %d streams", ErrFull, len(s.streams))
		}
		st = &stream{rec: streamRecord{lowest: 1}, disk: streamRecord{lowest: 1}}
		s.streams[name] = st
	}
	if st.inUse {
		return Reservation{}, ErrInUse
	}
	st.rec = st.rec.resumed()
	st.passOver(s.queued(name))
	st.first = st.rec.end + 1
	st.inUse = true
	return Reservation{Next: st.first, End: st.rec.end, Gap: st.rec.gap()}, nil
}

// queued is the last seq that the queue of that name has used; 0 without one.
func (s *Store) queued(name string) uint64 {
	s.change.Lock()
	defer s.change.Unlock()
	if q := s.queues[name]; q != nil {
		return q.rec.next - 1
	}
	return 0
}

// passOver makes the stream go on above last, if that is higher. On disk the queue says so.
func (st *stream) passOver(last uint64) {
	for _, r := range []*streamRecord{&st.rec, &st.disk} {
		if *r = r.resumed(); r.end < last {
			r.end, r.lowest = last, last+1
		}
	}
}

// Reserve makes it durable that all seqs up to end may be used, and that of those given out since
// Resume all below lowest are settled. It blocks until that is on disk. An end below an earlier
// one reserves nothing more; ErrFull above MaxSeq.
func (s *Store) Reserve(stream string, lowest, end uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.reserve(stream, lowest, end); err != nil {
		return fmt.Errorf("spool: reserve up to %d in stream %q: %w", end, clip([]byte(stream)), err)
	}
	return nil
}

// reserve is Reserve. s.writing must be held.
func (s *Store) reserve(name string, lowest, end uint64) error {
	st, err := s.used(name)
	if err != nil {
		return err
	}
	if end > MaxSeq {
		return fmt.Errorf("%w: seq %d", ErrFull, MaxSeq)
	}
	rec := st.rec
	rec.end = max(rec.end, end)
	rec.lowest = max(lowest, st.first)
	if rec.lowest > st.rec.end+1 {
		return fmt.Errorf("lowest %d is above all that can have been used, %d", lowest, st.rec.end)
	}
	return s.store(name, st, rec)
}

// Release ends the present use cleanly: seqs from next on were not used and will be the next to
// be. Of those before it, lowest and above go into the gap; with lowest == next there are none.
// It blocks until that is on disk.
func (s *Store) Release(stream string, next, lowest uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.release(stream, next, lowest); err != nil {
		return fmt.Errorf("spool: release stream %q at %d: %w", clip([]byte(stream)), next, err)
	}
	return nil
}

// release is Release. s.writing must be held.
func (s *Store) release(name string, next, lowest uint64) error {
	st, err := s.used(name)
	if err != nil {
		return err
	}
	if next < st.first || next > st.rec.end+1 {
		return fmt.Errorf("reserved are %d to %d", st.first, st.rec.end)
	}
	if lowest > next {
		return fmt.Errorf("lowest %d lies beyond", lowest)
	}
	rec := st.rec
	rec.end = next - 1
	rec.lowest = max(lowest, st.first)
	if err := s.store(name, st, rec); err != nil {
		return err
	}
	st.inUse = false
	return nil
}

// Forget drops from the gap of a stream all seqs up to upTo: whoever must hear of them has been
// told. It blocks until that is on disk. The stream need not be in use; nothing to drop is no
// error. A gap that is still told after a lost Forget does no harm.
func (s *Store) Forget(stream string, upTo uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.forget(stream, upTo); err != nil {
		return fmt.Errorf("spool: forget gap of stream %q: %w", clip([]byte(stream)), err)
	}
	return nil
}

// forget is Forget. s.writing must be held.
func (s *Store) forget(name string, upTo uint64) error {
	if err := s.writable(); err != nil {
		return err
	}
	st := s.streams[name]
	if st == nil {
		return nil
	}
	rec := st.rec
	if !st.inUse {
		rec = rec.resumed()
	}
	return s.store(name, st, rec.forgotten(upTo))
}

// used returns a stream that has been resumed. s.writing must be held.
func (s *Store) used(name string) (*stream, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	st := s.streams[name]
	if st == nil || !st.inUse {
		return nil, fmt.Errorf("it has not been resumed")
	}
	return st, nil
}

// store makes rec the record of st, on disk unless the disk already says as much to the next
// life. s.writing must be held.
func (s *Store) store(name string, st *stream, rec streamRecord) error {
	if rec.resumed() == st.disk.resumed() {
		st.rec = rec
		return nil
	}
	return s.commitSmall(
		func(c *Change) { c.set(streamKey(name), rec.seal(name)) },
		func() {
			st.disk, st.rec = rec, rec
			s.ends[name] = rec.end
		})
}

// resumed is the record as the next use finds it: what was not settled has become gap.
func (r streamRecord) resumed() streamRecord {
	if r.lowest > r.end {
		return r
	}
	if r.gapTo == 0 {
		r.gapFrom = r.lowest
	}
	r.gapTo = r.end
	r.lowest = r.end + 1
	return r
}

// forgotten is the record without the gap up to upTo.
func (r streamRecord) forgotten(upTo uint64) streamRecord {
	if upTo >= r.gapTo {
		r.gapFrom, r.gapTo = 0, 0
	} else if upTo >= r.gapFrom {
		r.gapFrom = upTo + 1
	}
	return r
}

func (r streamRecord) gap() *SeqRange {
	if r.gapTo == 0 {
		return nil
	}
	return &SeqRange{r.gapFrom, r.gapTo}
}
