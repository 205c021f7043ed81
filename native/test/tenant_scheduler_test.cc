// Deficit round robin on a clock of the test's.
#include "core/tenant_scheduler.h"

#include <map>

#include "check.h"

namespace weft {
namespace {

constexpr uint64_t kUs = 1'000;

Handle handle(uint32_t slot) { return {slot, 0}; }

// Tenants whose turns take `cost` each and that are always ready; ns each was served.
std::map<TenantId, uint64_t> serve(const std::map<TenantId, uint64_t>& costs, int turns) {
  TenantScheduler scheduler;
  std::map<TenantId, uint64_t> served;
  for (const auto& [tenant, cost] : costs) scheduler.make_ready(tenant, handle(tenant));
  TenantScheduler::Turn turn;
  for (int i = 0; i < turns && scheduler.next(&turn); i++) {
    served[turn.tenant] += costs.at(turn.tenant);
    scheduler.charge(turn.tenant, costs.at(turn.tenant));
    scheduler.make_ready(turn.tenant, turn.handle);
  }
  return served;
}

TEST("scheduler: a tenant's turns come in the order in which they became ready") {
  TenantScheduler scheduler;
  for (uint32_t i = 0; i < 5000; i++) scheduler.make_ready(7, handle(i));
  CHECK_EQ(scheduler.ready(), size_t{5000});
  TenantScheduler::Turn turn;
  for (uint32_t i = 0; i < 5000; i++) {
    CHECK(scheduler.next(&turn));
    CHECK_EQ(turn.tenant, TenantId{7});
    CHECK_EQ(turn.handle.slot, i);
    scheduler.charge(7, 10 * kUs);
    if (i % 3 == 0) scheduler.make_ready(7, handle(5000 + i));
  }
  CHECK_EQ(scheduler.ready(), size_t{1667});
}

TEST("scheduler: tenants that always have work get equal time, however long their turns are") {
  const auto served = serve({{1, 2 * kUs}, {2, 90 * kUs}, {3, 700 * kUs}}, 200'000);
  for (const TenantId tenant : {TenantId{1}, TenantId{2}, TenantId{3}}) {
    const double share = static_cast<double>(served.at(tenant)) / static_cast<double>(served.at(1));
    CHECK(share > 0.95 && share < 1.05);
  }
}

TEST("scheduler: tenants that always have work get time by their weights, however long their turns are") {
  TenantScheduler scheduler;
  const std::map<TenantId, uint64_t> costs = {{1, 40 * kUs}, {2, 3 * kUs}, {3, 500 * kUs}};
  scheduler.set_weight(1, 50);
  scheduler.set_weight(3, 200);
  std::map<TenantId, uint64_t> served;
  for (const auto& [tenant, cost] : costs) scheduler.make_ready(tenant, handle(tenant));
  TenantScheduler::Turn turn;
  for (int i = 0; i < 200'000 && scheduler.next(&turn); i++) {
    served[turn.tenant] += costs.at(turn.tenant);
    scheduler.charge(turn.tenant, costs.at(turn.tenant));
    scheduler.make_ready(turn.tenant, turn.handle);
  }
  const auto share = [&](TenantId tenant) { return static_cast<double>(served.at(tenant)) / static_cast<double>(served.at(2)); };
  CHECK(share(1) > 0.47 && share(1) < 0.53);
  CHECK(share(3) > 1.9 && share(3) < 2.1);
}

TEST("scheduler: however little a tenant weighs, one turn of another lets it in") {
  TenantScheduler scheduler;
  scheduler.set_weight(1, TenantScheduler::kMaxWeight);
  scheduler.set_weight(2, TenantScheduler::kMinWeight);
  for (uint32_t i = 0; i < 1000; i++) scheduler.make_ready(1, handle(i));
  TenantScheduler::Turn turn;
  CHECK(scheduler.next(&turn));
  scheduler.charge(1, TenantScheduler::kQuantumNs * 10);
  scheduler.make_ready(2, handle(9999));
  CHECK(scheduler.next(&turn));
  CHECK_EQ(turn.tenant, TenantId{2});
  // A turn that took ages is no debt for ever: a bounded number of quanta pays it.
  scheduler.charge(2, UINT64_MAX);
  for (int i = 0; i < 667; i++) {
    CHECK(scheduler.next(&turn));
    CHECK_EQ(turn.tenant, TenantId{1});
    scheduler.charge(1, TenantScheduler::kQuantumNs * 10);
  }
  scheduler.make_ready(2, handle(9999));
  for (int i = 0; i < 2 && turn.tenant != 2; i++) CHECK(scheduler.next(&turn));
  CHECK_EQ(turn.tenant, TenantId{2});
}

TEST("scheduler: who comes rarely waits for the turn that is under way and no more") {
  TenantScheduler scheduler;
  for (uint32_t i = 0; i < 1000; i++) scheduler.make_ready(1, handle(i));
  TenantScheduler::Turn turn;
  for (int i = 0; i < 500; i++) {
    CHECK(scheduler.next(&turn));
    scheduler.charge(turn.tenant, 30 * kUs);
  }
  scheduler.make_ready(2, handle(9999));
  CHECK(scheduler.next(&turn));
  CHECK_EQ(turn.tenant, TenantId{2});
}

TEST("scheduler: asked for new tenants alone it passes over the others, who lose nothing by it") {
  TenantScheduler scheduler;
  TenantScheduler::Turn turn;
  for (uint32_t i = 0; i < 3; i++) scheduler.make_ready(1, handle(i));
  CHECK(scheduler.next(&turn, true));
  CHECK(turn.is_new);
  scheduler.charge(1, 40 * kUs);
  scheduler.make_ready(2, handle(9));
  CHECK(scheduler.next(&turn, true));
  CHECK_EQ(turn.tenant, TenantId{2});
  CHECK(turn.is_new);
  scheduler.charge(2, 10 * kUs);
  CHECK(!scheduler.next(&turn, true));
  CHECK_EQ(scheduler.ready(), size_t{2});
  for (const uint32_t slot : {1u, 2u}) {
    CHECK(scheduler.next(&turn));
    CHECK_EQ(turn.tenant, TenantId{1});
    CHECK_EQ(turn.handle.slot, slot);
    CHECK(!turn.is_new);
    scheduler.charge(1, 10 * kUs);
  }
}

TEST("scheduler: coming back again and again makes nobody new: a flood can't pass the others") {
  TenantScheduler scheduler;
  scheduler.make_ready(1, handle(1));
  scheduler.make_ready(2, handle(2));
  uint64_t served[3] = {};
  TenantScheduler::Turn turn;
  for (int i = 0; i < 10'000; i++) {
    CHECK(scheduler.next(&turn));
    // Tenant 1 never has more than one thing ready, of 600 µs; tenant 2 always has.
    const uint64_t cost = turn.tenant == 1 ? 600 * kUs : 20 * kUs;
    served[turn.tenant] += cost;
    scheduler.charge(turn.tenant, cost);
    scheduler.make_ready(turn.tenant, turn.handle);
  }
  CHECK(served[1] < served[2] * 11 / 10);
  CHECK(served[2] < served[1] * 11 / 10);
}

TEST("scheduler: a debt is remembered over a pause, credit is not") {
  TenantScheduler scheduler;
  TenantScheduler::Turn turn;
  scheduler.make_ready(1, handle(1));
  CHECK(scheduler.next(&turn));
  scheduler.charge(1, 1000 * kUs);
  CHECK(!scheduler.next(&turn));
  scheduler.make_ready(1, handle(1));
  scheduler.make_ready(2, handle(2));
  CHECK(scheduler.next(&turn));
  CHECK_EQ(turn.tenant, TenantId{2});
  scheduler.charge(2, 10 * kUs);
  // Nobody else has work: whoever owes is served at once.
  CHECK(scheduler.next(&turn));
  CHECK_EQ(turn.tenant, TenantId{1});
  CHECK(scheduler.empty());
}

TEST("scheduler: an id out of range is nobody's") {
  CHECK_EQ(TenantScheduler::checked(-1), TenantId{0});
  CHECK_EQ(TenantScheduler::checked(1024), TenantId{0});
  CHECK_EQ(TenantScheduler::checked(1023), TenantId{1023});
}

}  // namespace
}  // namespace weft
