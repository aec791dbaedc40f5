package site

// RequestBeforeDrain submits as a goroutine does that saw no drain and then was not scheduled until now.
func (s *Site) RequestBeforeDrain(r *Request) {
	was := s.draining.Swap(false)
	s.Submit(r)
	s.draining.Store(was)
}
