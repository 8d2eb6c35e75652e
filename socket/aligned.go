package socket

import "time"

// Grid is how far apart points in time are that are told apart where little depends on them.
const Grid = RenewEvery / 16

// Aligned is d, or less than Grid less, so that what is done at the end of it is done at the same time
// as what else is, here and in other processes of the host: a machine at rest is woken up seldom, then.
func Aligned(d time.Duration) time.Duration {
	return d - time.Duration(time.Now().Add(d).UnixNano())%Grid
}
