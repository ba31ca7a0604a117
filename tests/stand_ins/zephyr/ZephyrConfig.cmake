# Stands in for Zephyr's CMake package in tests: modules by their module.yml, settings of prj.conf as they are (no
# Kconfig), the functions that exported modules call, and every library linked whole, as Zephyr does.
cmake_minimum_required(VERSION 3.20)
project(stand-in LANGUAGES C)

file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/prj.conf settings REGEX "^CONFIG_")
foreach(setting IN LISTS settings)
    string(REGEX MATCH "^([A-Z0-9_]+)=(.*)$" _ "${setting}")
    set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()

add_library(zephyr_interface INTERFACE)
target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_LIST_DIR}/include)

macro(zephyr_library_named name)
    set(ZEPHYR_CURRENT_LIBRARY ${name})
    add_library(${name} STATIC)
    target_link_libraries(${name} PUBLIC zephyr_interface)
    set_property(GLOBAL APPEND PROPERTY stand_in_libraries ${name})
endmacro()

function(zephyr_library_sources)
    target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()

function(zephyr_library_compile_options)
    target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()

function(zephyr_include_directories)
    foreach(folder IN LISTS ARGN)
        target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
    endforeach()
endfunction()

zephyr_library_named(app)
foreach(module IN LISTS EXTRA_ZEPHYR_MODULES)
    file(STRINGS ${module}/zephyr/module.yml cmake REGEX "^  cmake: ")
    string(REPLACE "  cmake: " "" cmake "${cmake}")
    file(STRINGS ${module}/zephyr/module.yml name REGEX "^name: ")
    string(REPLACE "name: " "" name "${name}")
    add_subdirectory(${module}/${cmake} ${CMAKE_BINARY_DIR}/modules/${name})
endforeach()

file(WRITE ${CMAKE_BINARY_DIR}/empty.c "typedef int empty;\n")
add_executable(zephyr_elf ${CMAKE_BINARY_DIR}/empty.c)
get_property(libraries GLOBAL PROPERTY stand_in_libraries)
target_link_libraries(zephyr_elf PRIVATE -Wl,--whole-archive ${libraries} -Wl,--no-whole-archive)
