package sim

// chaos schedules the faults of a trial up to end.
func (s *Sim) chaos(end int64) {
	r := s.rng
	s.delayLo, s.delayHi, s.spikes = r.Int64N(2*ms), 1+r.Int64N(40*ms), true
	if r.IntN(3) > 0 {
		s.loss = r.Float64() * 0.25
	}
	if r.IntN(2) == 0 {
		s.dup = r.Float64() * 0.2
	}
	for _, m := range s.nodes {
		if r.IntN(6) == 0 {
			m.slow = r.Int64N(40 * ms)
		}
	}
	for t := r.Int64N(1000 * ms); t < end; t += 100*ms + r.Int64N(2500*ms) {
		kind := r.IntN(4)
		s.call(t, func() { s.partition(kind) })
	}
	if r.IntN(4) > 0 {
		for t := r.Int64N(1500 * ms); t < end; t += 50*ms + r.Int64N(2000*ms) {
			m, all, down := s.nodes[r.IntN(len(s.nodes))], r.IntN(6) == 0, r.Int64N(1200*ms)
			s.call(t, func() {
				if all {
					for _, v := range s.nodes {
						s.bounce(v, down)
					}
				} else {
					s.bounce(m, down)
				}
			})
		}
	}
}

// bounce cuts a machine's power and gives it back.
func (s *Sim) bounce(m *machine, down int64) {
	if m.box == nil || m.liar == liarDead {
		return
	}
	var old *disk
	if m.liar == liarOldDisk && s.rng.IntN(2) == 0 {
		old = m.disk.clone()
	}
	s.crash(m)
	back := s.now + down + s.rng.Int64N(200*ms)
	s.call(back, func() {
		if m.box == nil {
			if m.liar == liarOldDisk && m.old != nil && s.rng.IntN(2) == 0 {
				m.disk = m.old
				m.disk.powerCut(s.members.Site, s.rng)
				m.old = nil
			}
			if old != nil {
				m.old = old
			}
			s.boot(m)
		}
	})
}

// partition heals and then cuts: at random, one box (perhaps one way only), in two sides, or not at all.
func (s *Sim) partition(kind int) {
	r := s.rng
	s.mend()
	switch kind {
	case 0:
		for i := range s.nodes {
			for j := range s.nodes {
				s.cut[i][j] = i != j && r.IntN(2) == 0
			}
		}
	case 1:
		v, way := r.IntN(len(s.nodes)), r.IntN(3)
		for j := range s.nodes {
			s.cut[v][j] = way != 1 && j != v
			s.cut[j][v] = way != 2 && j != v
		}
	case 2:
		side := make([]bool, len(s.nodes))
		for i := range side {
			side[i] = r.IntN(2) == 0
		}
		for i := range side {
			for j := range side {
				s.cut[i][j] = side[i] != side[j]
			}
		}
	}
	s.logf("partition kind %d", kind)
	s.relinkAll()
}

func (s *Sim) mend() {
	for i := range s.cut {
		clear(s.cut[i])
	}
}

func (s *Sim) relinkAll() {
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			s.relink(a, b)
		}
	}
}
