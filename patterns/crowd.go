package patterns

// crowd is calls that wait for the end of one context. Callers in great number who all select on one channel contend for
// it; these wait for nothing but their call, and one goroutine ends them when the context does. Guarded by the Req's mutex.
type crowd struct {
	done  <-chan struct{} // the context's
	calls int
	over  chan struct{} // closed when there are no more calls
}

// crowded is how many calls look after themselves: as many in a row must be of one context, and as many must wait.
const crowded = 8

// attend puts c into the crowd of its context, if it relies on that. r.mu must be held.
func (r *Req) attend(c *call) {
	if c.over == nil {
		return
	}
	if c.over != r.recent {
		r.recent, r.inRow = c.over, 0
	}
	if r.inRow++; !c.watched && (r.inRow <= crowded || r.waiting.Len() <= crowded) {
		return
	}
	w := r.crowds[c.over]
	if w == nil {
		w = &crowd{done: c.over, over: make(chan struct{})}
		r.crowds[c.over] = w
		r.common.Store(w)
		r.clock.Go(func() { r.watch(w) })
	}
	w.calls++
	c.crowd = w
}

// part takes c out of its crowd. r.mu must be held.
func (r *Req) part(c *call) {
	w := c.crowd
	if w == nil {
		return
	}
	if w.calls--; w.calls == 0 {
		delete(r.crowds, w.done)
		r.common.CompareAndSwap(w, nil)
		close(w.over)
	}
}

// watch gives up what is left of a crowd when its context has ended.
func (r *Req) watch(w *crowd) {
	select {
	case <-w.over:
		return
	case <-w.done:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gather().Pass()
	for k, c := range r.waiting.All() {
		if c.crowd == w {
			r.giveUp(k.Seq, c)
		}
	}
}
