package reference

import (
	"bytes"
	"sync"
)

// fan writes the same bytes to several servers, each at its own pace.
type fan struct {
	wg    sync.WaitGroup
	lanes []chan []byte

	once   sync.Once
	failed chan struct{} // closed once err is set
	err    error
}

// laneLength is how many pieces may wait for a server that is slower than the others.
const laneLength = 4

func newFan(pushes []*push) *fan {
	f := &fan{failed: make(chan struct{})}
	for _, p := range pushes {
		lane := make(chan []byte, laneLength)
		f.lanes = append(f.lanes, lane)
		f.wg.Go(func() {
			for b := range lane {
				if err := p.write(b); err != nil {
					f.once.Do(func() { f.err = err; close(f.failed) })
					return
				}
			}
		})
	}
	return f
}

// write waits until there is room for b on its way to every server.
func (f *fan) write(b []byte) error {
	b = bytes.Clone(b) // several writers have it for a while
	for _, lane := range f.lanes {
		select {
		case lane <- b:
		case <-f.failed:
			return f.err
		}
	}
	return nil
}

// end waits until all is written.
func (f *fan) end() error {
	for _, lane := range f.lanes {
		close(lane)
	}
	f.wg.Wait()
	return f.err
}
