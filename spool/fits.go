package spool

// Need is a record to be appended: to which queue, and how large it is at most.
type Need struct {
	Queue *Queue
	Size  int
}

// Fits says whether all of these records can be appended in this change: nil, or the error that
// an Append would return. After nil an Append of one of them fails only when the store does, and
// then the whole change never reaches the disk.
func (c *Change) Fits(records []Need) error {
	if len(records) == 0 {
		return nil
	}
	var size int64
	for _, r := range records {
		if err := c.appendable(r.Queue, r.Size); err != nil {
			return err
		}
		size += int64(r.Size) + blockCost
	}
	if err := c.s.fits(size); err != nil {
		return err
	}
	c.granted = size
	return nil
}

// AppendAnyway is Append for what takes the place of a record that is settled in the same change,
// as a dead letter does: neither quota nor reserve hold it back.
func (c *Change) AppendAnyway(q *Queue, size int, frame func(dst []byte, delta uint64) []byte) (seq, base uint64, record []byte, err error) {
	c.granted += int64(size) + blockCost
	return c.Append(q, size, frame)
}
