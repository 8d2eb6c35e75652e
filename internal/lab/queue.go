//go:build linux

package main

import (
	"container/heap"
	"io"
	"sync"
	"time"
)

// A delayQueue writes frames when they are due, those of the same time in the order they were sent. What it
// holds is bounded by the link: what comes in while the longest delay passes. Its goroutine lives until close.
type delayQueue struct {
	to   io.Writer
	wake chan struct{} // the first frame is another one
	done chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex
	waiting frameHeap
	sent    uint64
}

func newDelayQueue(to io.Writer) *delayQueue {
	q := &delayQueue{to: to, wake: make(chan struct{}, 1), done: make(chan struct{})}
	q.wg.Go(q.run)
	return q
}

// close drops what still waits. Nothing may be sent after it.
func (q *delayQueue) close() {
	close(q.done)
	q.wg.Wait()
}

// send writes b at once if it is due now, else later, and keeps it till then.
func (q *delayQueue) send(now, at time.Time, b []byte) {
	if !at.After(now) {
		_, _ = q.to.Write(b) // a frame that cannot be written is lost, as on a wire
		return
	}
	q.mu.Lock()
	q.sent++
	heap.Push(&q.waiting, waitingFrame{departure{at, b}, q.sent})
	first := q.waiting[0].order == q.sent
	q.mu.Unlock()
	if first {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

func (q *delayQueue) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-q.wake:
		case <-q.done:
			return
		}
		for _, b := range q.takeDue(timer) {
			_, _ = q.to.Write(b) // as in send
		}
	}
}

// takeDue returns the frames that are due, and sets the timer to when the next one is.
func (q *delayQueue) takeDue(timer *time.Timer) (due [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 {
		if wait := time.Until(q.waiting[0].at); wait > 0 {
			timer.Reset(wait)
			return due
		}
		due = append(due, heap.Pop(&q.waiting).(waitingFrame).frame)
	}
	timer.Stop()
	return due
}

type waitingFrame struct {
	departure
	order uint64
}

// frameHeap is a heap.Interface: the earliest first, and of the same time the one that was sent first.
type frameHeap []waitingFrame

func (h frameHeap) Len() int { return len(h) }
func (h frameHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].order < h[j].order
	}
	return h[i].at.Before(h[j].at)
}
func (h frameHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *frameHeap) Push(x any)   { *h = append(*h, x.(waitingFrame)) }
func (h *frameHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
