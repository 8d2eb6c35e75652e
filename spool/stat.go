package spool

import "os"

// Stat is what a store says of itself.
type Stat struct {
	Profile Profile
	Quota   int64  // bytes of waiting records and blocks; 0: none
	Reserve int64  // bytes of the file system kept free; 0: none
	Used    int64  // bytes of waiting records and blocks, which Quota bounds
	Disk    int64  // bytes allocated in the directory, without the ballast
	Groups  Group  // committed since Open
	Syncs   Timing // of bringing groups to the disk
	Damage  error  // what Open found to be lost; nil: nothing. It matches ErrDamaged
	Failed  error  // why the store is read-only; nil: it is not

	Encrypted bool // it was made with a key
}

// Stat returns the state of the store. It looks at the directory.
func (s *Store) Stat() Stat {
	s.change.Lock()
	st := Stat{Profile: s.profile.profile, Encrypted: s.key != nil, Quota: s.quota, Reserve: s.room.reserve, Used: s.held, Groups: s.committed, Damage: s.damage}
	s.change.Unlock()
	st.Failed, st.Syncs = s.failure(), s.syncs.read()
	st.Disk = diskUsed(s.dir)
	return st
}

// diskUsed adds up what the files of dir take, without the ballast. One that vanishes meanwhile
// takes nothing.
func diskUsed(dir string) (bytes int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if e.Name() == ballastName {
			continue
		}
		if info, err := e.Info(); err == nil {
			bytes += allocated(info)
		}
	}
	return bytes
}
