package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Badger collects a value log file by what it has counted of it, in a file of its own:
//
//	DISCARD   slots of fid (8) | bytes of garbage (8), ended by zeros
//
// Before it deletes a value log file it forgets that count. A kill right then leaves a file that
// nothing points to and that is never looked at again. So when an Open finds far more on disk than
// is owed, it has the count say that all there is is garbage. That is no risk: Badger reads the
// file before it deletes it, and keeps what is still pointed to.
const (
	discardName = "DISCARD"
	discardSize = 1 << 20
	discardSlot = 16
)

// condemnLeftovers has every value log file counted as garbage if next to nothing is owed and the
// files take much more than that. Badger is closed meanwhile: nothing else uses it yet.
func (s *Store) condemnLeftovers() error {
	if owed, excess := s.outgrown(); owed > leastSweep || excess == 0 {
		return nil
	}
	db := s.db
	s.db = nil
	if err := db.Close(); err != nil {
		return fmt.Errorf("badger: close: %w", err)
	}
	if err := condemnLogs(s.dir); err != nil {
		return err
	}
	var err error
	s.db, err = openBadger(s.dir, s.profile, s.badgerKey, badgerLog{s.log, s.fail})
	return err
}

// condemnLogs writes the count. A torn one is a wrong count, nothing worse.
func condemnLogs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var slots []byte
	for _, e := range entries {
		number, ok := numbered(e.Name(), ".vlog")
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		slots = binary.BigEndian.AppendUint64(slots, number)
		slots = binary.BigEndian.AppendUint64(slots, uint64(info.Size()))
	}
	slots = slots[:min(len(slots), discardSize-discardSlot)]
	f, err := os.OpenFile(filepath.Join(dir, discardName), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(discardSize)
	if err == nil {
		_, err = f.Write(slots)
	}
	return errors.Join(err, f.Close())
}
