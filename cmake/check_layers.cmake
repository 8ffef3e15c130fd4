# SPDX-License-Identifier: LGPL-2.1-or-later
# cmake -P cmake/check_layers.cmake
#
# Who may include whom (docs/ARCHITECTURE.md), checked over the #include lines. A folder of src/ sees
# itself, include/libft and the folders listed here; nothing else.
cmake_minimum_required(VERSION 3.25)
get_filename_component(root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)

set(may_base "")
set(may_os base)
set(may_wire base)
set(may_core base wire)
set(may_guest base os)
set(may_transport base os)
set(may_output base os)
set(may_failover base os wire core)
set(may_strategy base wire core)
set(may_capi base os guest transport output failover session)
set(may_session base os wire core guest transport output failover strategy)

set(wrong "")
set(seen 0)
file(GLOB_RECURSE files RELATIVE ${root} ${root}/src/*.h ${root}/src/*.cc ${root}/src/*.c
     ${root}/include/libft/*.h ${root}/capi/*.h ${root}/capi/*.cc)
foreach(file ${files})
  string(REGEX MATCH "^(src/)?([a-z]+)/([a-z]+)?" ignored ${file})
  set(layer "${CMAKE_MATCH_2}")
  set(part "${CMAKE_MATCH_3}")
  file(STRINGS ${root}/${file} lines REGEX "^#include \"")
  foreach(line ${lines})
    math(EXPR seen "${seen} + 1")
    string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" target "${line}")
    if(target MATCHES "^libft/" OR NOT target MATCHES "/")  # Public, or of the same folder.
      continue()
    endif()
    string(REGEX MATCH "^([a-z]+)/([a-z]+)?" ignored ${target})
    set(other "${CMAKE_MATCH_1}")
    set(other_part "${CMAKE_MATCH_2}")
    if(file MATCHES "^include/")
      list(APPEND wrong "${file}: a public header includes ${target}")
    elseif(layer STREQUAL other)
      # Siblings never see one another: guest/qemu is not guest/memory's business.
      if((layer STREQUAL guest OR layer STREQUAL strategy) AND NOT part STREQUAL other_part)
        list(APPEND wrong "${file}: a sibling, ${target}")
      endif()
    elseif(NOT other IN_LIST may_${layer})
      list(APPEND wrong "${file}: ${layer} may not see ${target}")
    endif()
  endforeach()
endforeach()

if(seen LESS 50)
  message(FATAL_ERROR "only ${seen} includes seen: the check looks in the wrong place")
endif()
if(wrong)
  list(JOIN wrong "\n  " text)
  message(FATAL_ERROR "the layers of docs/ARCHITECTURE.md are broken:\n  ${text}")
endif()
message(STATUS "layers: ${seen} includes checked")
