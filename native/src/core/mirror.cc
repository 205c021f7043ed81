// See mirror.h.
#include "core/mirror.h"

#include "core/reactor.h"

namespace weft {

bool Mirror::send(Reactor* reactor, const DownstreamOrigin& origin, int32_t number, const uint8_t* request, size_t size) {
  if (reactor->mirrors() >= kMost) {
    reactor->counters().add(Counter::MirrorsDropped);
    return false;
  }
  auto* mirror = new Mirror(reactor, origin, number, request, size);
  reactor->adopt_bare(mirror);
  reactor->resume_later(mirror);
  return true;
}

Mirror::Mirror(Reactor* reactor, const DownstreamOrigin& origin, int32_t number, const uint8_t* request, size_t size)
    : OwnRequest(reactor, origin, kDescriptorMirror, number, request, size), number_of_(reactor->tables()->serial()) {
  reactor_->count_mirrors(1);
}

Mirror::~Mirror() { reactor_->count_mirrors(-1); }

bool Mirror::is_void() const { return number_of_ != reactor_->tables()->serial(); }

void Mirror::on_begin() { reactor_->counters().add(Counter::MirrorsSent); }

void Mirror::on_drop() { reactor_->counters().add(Counter::MirrorsDropped); }

}  // namespace weft
