package patterns

import (
	"fmt"
	"sync"

	"peermesh/spool"
)

// MemorySeqs keeps the seqs of a node without a state directory: its streams live
// as long as the process. The zero value is ready; safe for concurrent use.
type MemorySeqs struct {
	mu   sync.Mutex
	next map[string]uint64
}

// Resume says where the stream stands.
func (m *MemorySeqs) Resume(stream string) (spool.Reservation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next == nil {
		m.next = map[string]uint64{}
	}
	next, ok := m.next[stream]
	if !ok {
		next = 1
	}
	m.next[stream] = next
	return spool.Reservation{Next: next, End: next - 1}, nil
}

// Reserve allows seqs up to end.
func (m *MemorySeqs) Reserve(stream string, lowest, end uint64) error {
	return m.Release(stream, end+1, lowest)
}

// Release says that seqs from next on were not used.
func (m *MemorySeqs) Release(stream string, next, _ uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.next[stream]; !ok {
		return fmt.Errorf("patterns: stream %q was not resumed", stream)
	}
	m.next[stream] = next
	return nil
}

// Forget has nothing to drop: a stream in memory has no earlier life.
func (m *MemorySeqs) Forget(string, uint64) error { return nil }
